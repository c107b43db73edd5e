package opadoor

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Limits of one upload of decision logs. OPA packs 32 KiB by default.
const (
	maxPackedLog = 4 << 20
	maxLog       = 32 << 20
	maxEvent     = 1 << 20 // of which input and result are kept
	maxEvents    = 50_000
	logBatch     = 200 // records stored at a time
)

// event is one decision as OPA 1.22 logs it; members that newer versions add
// are left out.
type event struct {
	Labels      map[string]string `json:"labels"`
	DecisionID  string            `json:"decision_id"`
	BatchID     string            `json:"batch_decision_id"`
	TraceID     string            `json:"trace_id"`
	Bundles     map[string]bundle `json:"bundles"`
	Path        string            `json:"path"`
	Query       string            `json:"query"`
	Input       json.RawMessage   `json:"input"`
	Result      json.RawMessage   `json:"result"`
	Mapped      json.RawMessage   `json:"mapped_result"`
	Erased      []string          `json:"erased"`
	Masked      []string          `json:"masked"`
	Error       json.RawMessage   `json:"error"`
	RequestedBy string            `json:"requested_by"`
	Timestamp   time.Time         `json:"timestamp"`
}

type bundle struct {
	Revision string `json:"revision"`
}

// logs answers POST /logs. What was stored before an error is stored, and is
// not stored again when the agent repeats the upload.
func (d *Door) logs(c *call) error {
	snapshot := d.config.PDP.Active()
	if snapshot == nil {
		return pdp.ErrNotReady
	}
	if err := d.config.Guard.Allow(c.r.Context(), c.caller, rightShip, homeOf(c.caller)); err != nil {
		return err
	}
	body, done, err := d.upload(c, maxPackedLog, maxLog)
	if err != nil {
		return err
	}
	defer done()
	shipper := &shipper{door: d, call: c, snapshot: snapshot, ships: map[string]bool{}}
	if err := readEvents(body, func(e *event, size int) error { return shipper.add(c.r.Context(), e, size) }); err != nil {
		return err
	}
	if err := shipper.flush(c.r.Context()); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func homeOf(c access.Caller) string {
	if c.Tenant == "" {
		return pap.Platform
	}
	return c.Tenant
}

// upload returns the unpacked body of a call; done must be called.
func (d *Door) upload(c *call, maxPacked, maxPlain int64) (body io.Reader, done func(), err error) {
	leave, err := d.place(c)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(readTimeout)) // not every writer has one
	var packed io.Reader = http.MaxBytesReader(c.w, c.r.Body, maxPacked)
	switch encoding := c.r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		if packed, err = gzip.NewReader(packed); err != nil {
			return nil, nil, refuse(http.StatusBadRequest, "invalid_body", "the body is not gzip: "+err.Error())
		}
	default:
		return nil, nil, refuse(http.StatusUnsupportedMediaType, "unsupported_encoding", "send the body with Content-Encoding: gzip, or without")
	}
	return &limited{packed, maxPlain}, leave, nil
}

// place waits for a place among the uploads that are read at once: first among
// those of the caller's tenant, so that one which writes slowly holds up nobody
// else. leave gives it back.
func (d *Door) place(c *call) (leave func(), err error) {
	d.mu.Lock()
	share := d.shares[c.caller.Tenant]
	if share == nil {
		share = make(chan struct{}, maxShare)
		if c.caller.Tenant == "" {
			share = make(chan struct{}, maxUploads)
		}
		d.shares[c.caller.Tenant] = share // tenants that exist: there is no end of names to make up
	}
	d.mu.Unlock()
	ended := c.r.Context().Done()
	select {
	case share <- struct{}{}:
	case <-ended:
		return nil, c.r.Context().Err()
	}
	select {
	case d.uploads <- struct{}{}:
		return func() { <-d.uploads; <-share }, nil
	case <-ended:
		<-share
		return nil, c.r.Context().Err()
	}
}

// limited is a reader that fails beyond its limit. It fills what it is given:
// encoding/json scans blanks from their beginning after each read, so that
// many short reads of many blanks would cost their square.
type limited struct {
	from io.Reader
	left int64
}

var errLarge = refuse(http.StatusRequestEntityTooLarge, "body_too_large", "the body unpacks to more than this server takes")

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLarge
	}
	p = p[:min(int64(len(p)), l.left)]
	n := 0
	for n < len(p) {
		read, err := l.from.Read(p[n:])
		n += read
		if err != nil {
			l.left -= int64(n)
			return n, err
		}
	}
	l.left -= int64(n)
	return n, nil
}

// readEvents reads an array of events, one at a time. The size is that of its
// text. An event whose text is larger than maxEvent has lost input and result.
func readEvents(body io.Reader, each func(e *event, size int) error) error {
	decoder := json.NewDecoder(body)
	if t, err := decoder.Token(); err != nil || t != json.Delim('[') {
		return badBody("want an array of events", err)
	}
	for n := 0; decoder.More(); n++ {
		if n == maxEvents {
			return refuse(http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("more than %d events in one upload", maxEvents))
		}
		var text json.RawMessage
		if err := decoder.Decode(&text); err != nil {
			return badBody(fmt.Sprintf("event %d", n), err)
		}
		e, err := readEvent(text)
		if err != nil {
			return badBody(fmt.Sprintf("event %d", n), err)
		}
		if err := each(e, len(text)); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing bracket
		return badBody("the array does not end", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badBody("something follows the array", nil)
	}
	return nil
}

func readEvent(text []byte) (*event, error) {
	if text[0] != '{' {
		return nil, errors.New("want an object")
	}
	e := &event{}
	if err := json.Unmarshal(text, e); err != nil {
		return nil, err
	}
	if e.DecisionID == "" {
		return nil, errors.New("decision_id: required")
	}
	if len(text) > maxEvent {
		tenant := e.tenant()
		e.Input, e.Result, e.Mapped, e.Error = nil, nil, nil, nil
		if tenant != "" {
			e.Input = []byte(`{"tenant":"` + tenant + `"}`)
		}
	}
	return e, nil
}

// tenant is the one that the input names; empty where it names none.
func (e *event) tenant() string {
	var input struct {
		Tenant string `json:"tenant"`
	}
	if json.Unmarshal(e.Input, &input) != nil || authz.ValidTenant(input.Tenant) != nil {
		return ""
	}
	return input.Tenant
}

// plain decodes a part of an event, numbers as they are written.
func plain(text json.RawMessage) any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil // there is none
	}
	return v
}

func badBody(what string, err error) error {
	var known *statusError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLarge):
		return errLarge
	case err != nil:
		what += ": " + err.Error()
	}
	return refuse(http.StatusBadRequest, "invalid_body", what)
}

// shipper stores the events of one upload.
type shipper struct {
	door     *Door
	call     *call
	snapshot *pdp.Snapshot
	batch    []authz.AuditRecord
	ships    map[string]bool // tenants that a platform's caller may ship for
}

func (s *shipper) add(ctx context.Context, e *event, size int) error {
	record, err := s.record(ctx, e, size)
	if err != nil {
		return err
	}
	if s.batch = append(s.batch, record); len(s.batch) < logBatch {
		return nil
	}
	return s.flush(ctx)
}

func (s *shipper) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return nil
	}
	if err := s.door.config.Insert(ctx, s.batch); err != nil {
		return fmt.Errorf("store %d decisions of a stock agent: %w", len(s.batch), err)
	}
	s.batch = s.batch[:0]
	return nil
}

// tenant is the one whose audit holds the event: the credential's, or for the
// platform's what the input names, if the caller may ship for it.
func (s *shipper) tenant(ctx context.Context, e *event) (string, error) {
	home, named := s.call.caller.Tenant, e.tenant()
	if home != "" || named == "" {
		return home, nil
	}
	may, asked := s.ships[named]
	if !asked {
		err := s.door.config.Guard.Allow(ctx, s.call.caller, rightShip, named)
		if err != nil && !errors.Is(err, pap.ErrForbidden) {
			return "", err
		}
		may = err == nil
		if len(s.ships) < 1000 {
			s.ships[named] = may
		}
	}
	if !may {
		return "", nil
	}
	return named, nil
}

func (s *shipper) record(ctx context.Context, e *event, size int) (authz.AuditRecord, error) {
	tenant, err := s.tenant(ctx, e)
	if err != nil {
		return authz.AuditRecord{}, err
	}
	input, outcome := s.snapshot.MaskedData(tenant, plain(e.Input), map[string]any{
		"result": plain(e.Result), "mapped_result": plain(e.Mapped), "error": plain(e.Error), "query": e.Query,
	})
	text := func(name, value string) authz.Member {
		return authz.Member{Name: name, Value: authz.StringValue(strings.ToValidUTF8(value, "\uFFFD"))}
	}
	members := []authz.Member{
		text("decision_id", e.DecisionID), text("path", e.Path), text("requested_by", e.RequestedBy),
		text("received_at", s.door.config.Now().UTC().Format(time.RFC3339Nano)),
		{Name: "labels", Value: textsOf(e.Labels)}, {Name: "bundles", Value: textsOf(revisionsOf(e.Bundles))},
		{Name: "input", Value: input},
	}
	for _, name := range []string{"result", "mapped_result", "error", "query"} {
		v, _ := outcome.Get(name)
		if said := v.Kind() != authz.KindNull && (v.Kind() != authz.KindString || v.Text() != ""); said || name == "result" {
			members = append(members, authz.Member{Name: name, Value: v})
		}
	}
	for _, optional := range []struct{ name, value string }{{"batch_decision_id", e.BatchID}, {"trace_id", e.TraceID}} {
		if optional.value != "" {
			members = append(members, text(optional.name, optional.value))
		}
	}
	for name, list := range map[string][]string{"erased": e.Erased, "masked": e.Masked} {
		if len(list) > 0 {
			members = append(members, authz.Member{Name: name, Value: authz.Strings(list...)})
		}
	}
	if size > maxEvent {
		members = append(members, authz.Member{Name: "left_out", Value: authz.StringValue(fmt.Sprintf("input and result: the event has %d bytes", size))})
	}
	if named := e.tenant(); named != tenant && named != "" {
		members = append(members, text("asked_tenant", named))
	}
	told, err := authz.ObjectValue(members...)
	if err != nil {
		return authz.AuditRecord{}, err
	}
	body, err := authz.ObjectValue(authz.Member{Name: "opa", Value: told})
	if err != nil {
		return authz.AuditRecord{}, err
	}
	subject, action, resource := pdp.AskedOf(input)
	return authz.AuditRecord{
		ID: recordID(s.call.caller, e), Time: e.Timestamp.UTC(), Kind: authz.AuditDecision, Tenant: tenant, Actor: s.call.caller.Name(),
		Subject: subject, Action: action, Resource: resource, Revision: revisionOf(e.Bundles), Body: body,
	}, nil
}

// textsOf makes an object of names and texts.
func textsOf(texts map[string]string) authz.Value {
	all := make(map[string]any, len(texts))
	for name, text := range texts {
		all[strings.ToValidUTF8(name, "\uFFFD")] = strings.ToValidUTF8(text, "\uFFFD")
	}
	v, err := authz.ValueOf(all)
	if err != nil {
		return authz.Value{}
	}
	return v
}

func revisionsOf(all map[string]bundle) map[string]string {
	revisions := make(map[string]string, len(all))
	for name, b := range all {
		revisions[name] = b.Revision
	}
	return revisions
}

// revisionOf is the release that decided, of the bundles that are ours.
func revisionOf(all map[string]bundle) string {
	var found []string
	for _, b := range all {
		if release, ok := releaseOf(b.Revision); ok {
			found = append(found, authz.Revision{Release: release}.String())
		}
	}
	if len(found) == 0 {
		return ""
	}
	slices.Sort(found)
	return found[0]
}

// releaseOf reads what opabundle.Revision writes.
func releaseOf(revision string) (uint64, bool) {
	digits, ok := strings.CutPrefix(revision, "r")
	release, err := strconv.ParseUint(digits, 10, 64)
	return release, ok && err == nil && release > 0
}

// alphabet is Crockford's, in which ULIDs are written.
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// recordID is a ULID of the event's time and a digest of whose decision it is,
// so that an event that is sent again has the same one.
func recordID(c access.Caller, e *event) string {
	at := e.Timestamp.UnixMilli()
	if year := e.Timestamp.UTC().Year(); year < 2000 || year > 2200 {
		at = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	}
	h := sha256.New()
	for _, part := range []string{c.Tenant, c.Name(), e.DecisionID, e.Timestamp.UTC().Format(time.RFC3339Nano)} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // a hash takes anything
		_, _ = io.WriteString(h, part)
	}
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(at)<<16)
	copy(id[6:], h.Sum(nil))
	high, low := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	var text [26]byte
	for i := len(text) - 1; i >= 0; i-- {
		text[i] = alphabet[low&31]
		low = low>>5 | high<<59
		high >>= 5
	}
	return pap.ReserveID(string(text[:])) // no shipped record can bear it first
}
