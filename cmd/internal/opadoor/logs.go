package opadoor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
