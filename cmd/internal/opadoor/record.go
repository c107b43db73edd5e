package opadoor

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cmd/internal/access"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// record is the event as the audit store keeps it.
func (s *shipper) record(ctx context.Context, e *event, size int) (authz.AuditRecord, error) {
	tenant, err := s.tenant(ctx, e)
	if err != nil {
		return authz.AuditRecord{}, err
	}
	input, outcome := s.snapshot.MaskedData(tenant, plain(e.Input), map[string]any{
		"result": plain(e.Result), "mapped_result": plain(e.Mapped), "error": plain(e.Error), "query": e.Query,
	})
	told, err := authz.ObjectValue(s.members(e, size, tenant, input, outcome)...)
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

// members are what the record tells of an event whose text has this size, its
// input and outcome masked. What the event has nothing of is left out.
func (s *shipper) members(e *event, size int, tenant string, input, outcome authz.Value) []authz.Member {
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
	optional := func(name, value string) {
		if value != "" {
			members = append(members, text(name, value))
		}
	}
	optional("batch_decision_id", e.BatchID)
	optional("trace_id", e.TraceID)
	for name, list := range map[string][]string{"erased": e.Erased, "masked": e.Masked} {
		if len(list) > 0 {
			members = append(members, authz.Member{Name: name, Value: authz.Strings(list...)})
		}
	}
	if size > maxEvent {
		optional("left_out", fmt.Sprintf("input and result: the event has %d bytes", size))
	}
	if named := e.tenant(); named != tenant {
		optional("asked_tenant", named)
	}
	return members
}

func text(name, value string) authz.Member {
	return authz.Member{Name: name, Value: authz.StringValue(strings.ToValidUTF8(value, "\uFFFD"))}
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
