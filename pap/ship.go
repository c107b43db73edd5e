package pap

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Shipped says what became of decision records that a PEP shipped.
type Shipped struct {
	Accepted   int       `json:"accepted"`
	Duplicates int       `json:"duplicates"` // shipped by this caller before
	Refused    []Refused `json:"refused"`
}

// Refused is a record that will not be taken, however often it is sent.
type Refused struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// maxAhead is how far a record's time may lie in the future: as much as clocks
// differ without harm. A record of next year would stand before all others.
const maxAhead = 5 * time.Minute

// ShipDecisions stores records of decisions that a PEP made by itself (X15).
// Needs audit.ship in every record's tenant; a record without it is refused,
// and where all are, ErrForbidden is returned. Whoever ships is the records'
// actor, and the body says so in "shipped".
//
// Records come again after a lost answer and are stored once. An id belongs to
// whoever's record bore it first, and nobody can tell whether it was taken:
// another caller's record is stored under an id derived from it, and so is one
// that comes with a reserved id ([ReserveID]), which is a server's to give: so
// nobody can keep another's decisions from being recorded, nor the server's own,
// which it answers with before it has stored them.
func (s *Service) ShipDecisions(ctx context.Context, actor Actor, records []authz.AuditRecord) (Shipped, error) {
	shipped := Shipped{Refused: []Refused{}}
	shipment := shipment{service: s, actor: actor, may: map[string]error{}}
	var good []authz.AuditRecord
	for _, r := range records {
		reason, err := shipment.check(ctx, &r)
		if err != nil {
			return Shipped{}, err
		}
		if reason != "" {
			shipped.Refused = append(shipped.Refused, Refused{r.ID, reason})
			continue
		}
		good = append(good, shipment.signed(r))
	}
	if len(good) == 0 && shipment.forbidden != nil {
		return Shipped{}, shipment.forbidden
	}
	known, err := shipment.store(ctx, good)
	if err != nil {
		return Shipped{}, err
	}
	shipped.Duplicates = known
	shipped.Accepted = len(good) - known
	return shipped, nil
}

// shipment is one call of ShipDecisions.
type shipment struct {
	service   *Service
	actor     Actor
	may       map[string]error // by tenant
	forbidden error            // the first refusal
}

// check says why a record is refused, or "".
func (s *shipment) check(ctx context.Context, r *authz.AuditRecord) (reason string, err error) {
	at, ok := ulidTime(r.ID)
	latest := s.service.Now().Add(maxAhead)
	switch {
	case !ok:
		return "the id is not a ULID", nil
	case r.Kind != authz.AuditDecision:
		return fmt.Sprintf("kind %q: only decisions are shipped", r.Kind), nil
	case !slices.Contains([]string{"ALLOW", "DENY", "REVIEW"}, r.Effect):
		return fmt.Sprintf("effect %.32q: want ALLOW, DENY or REVIEW", r.Effect), nil
	case r.Time.IsZero() || r.Time.After(latest) || at.After(latest):
		return "its time is missing or lies in the future: set this machine's clock", nil
	case r.Body.Kind() != authz.KindObject:
		return "body: want an object", nil
	}
	if r.Tenant != "" {
		if err := authz.ValidTenant(r.Tenant); err != nil {
			return "tenant: " + err.Error(), nil
		}
	}
	return s.allowed(ctx, r.Tenant)
}

func (s *shipment) allowed(ctx context.Context, tenant string) (reason string, err error) {
	refused, asked := s.may[tenant]
	if !asked {
		refused = s.actor.May(ctx, "audit.ship", rightsTenant(tenant))
		s.may[tenant] = refused
	}
	switch {
	case refused == nil:
		return "", nil
	case !errors.Is(refused, ErrForbidden): // not knowing is no refusal: send it again
		return "", refused
	case s.forbidden == nil:
		s.forbidden = refused
	}
	return fmt.Sprintf("no right audit.ship in tenant %q", rightsTenant(tenant)), nil
}

// shippedMember is the member of a record's body that says who shipped it.
const shippedMember = "shipped"

// signed makes the caller the record's actor.
func (s *shipment) signed(r authz.AuditRecord) authz.AuditRecord {
	by, _ := authz.ObjectValue( // the names differ
		authz.Member{Name: "by", Value: authz.StringValue(s.actor.Name)},
		authz.Member{Name: "tenant", Value: authz.StringValue(s.actor.Tenant)},
	)
	r.Actor, r.Body = s.actor.Name, r.Body.With(shippedMember, by)
	return r
}

// mine reports whether a stored record was shipped by this caller.
func (s *shipment) mine(r *authz.AuditRecord) bool {
	by, _ := r.Body.Get(shippedMember)
	tenant, _ := by.Get("tenant")
	return r.Actor == s.actor.Name && by.Kind() == authz.KindObject && tenant.Equal(authz.StringValue(s.actor.Tenant))
}

// store stores what is new and returns how many were stored before. Who owns
// an id never changes, so that it can be looked up after storing.
func (s *shipment) store(ctx context.Context, records []authz.AuditRecord) (known int, err error) {
	if len(records) == 0 {
		return 0, nil
	}
	moved := make([]string, len(records))
	for i := range records {
		moved[i] = s.derivedID(records[i].ID)
		if IsReservedID(records[i].ID) {
			records[i] = renamed(records[i], moved[i])
		}
	}
	before, err := s.owners(ctx, records, moved)
	if err != nil {
		return 0, err
	}
	if err := s.service.Decisions.InsertDecisions(ctx, records); err != nil {
		return 0, err
	}
	after, err := s.owners(ctx, records, nil)
	if err != nil {
		return 0, err
	}
	var foreign []authz.AuditRecord
	seen := map[string]bool{}
	for i, r := range records {
		if before[r.ID] || before[moved[i]] || seen[r.ID] {
			known++
		}
		seen[r.ID] = true
		if !after[r.ID] {
			foreign = append(foreign, renamed(r, moved[i]))
		}
	}
	if len(foreign) == 0 {
		return known, nil
	}
	return known, s.service.Decisions.InsertDecisions(ctx, foreign)
}

// renamed stores a record under another id and says in its body which it had.
func renamed(r authz.AuditRecord, id string) authz.AuditRecord {
	r.Body = r.Body.With("id", authz.StringValue(r.ID))
	r.ID = id
	return r
}

// owners reports which of the ids' stored records are this caller's.
func (s *shipment) owners(ctx context.Context, records []authz.AuditRecord, more []string) (map[string]bool, error) {
	ids := slices.Clone(more)
	for i := range records {
		ids = append(ids, records[i].ID)
	}
	stored, err := s.service.Decisions.DecisionsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	mine := make(map[string]bool, len(stored))
	for i := range stored {
		mine[stored[i].ID] = s.mine(&stored[i])
	}
	return mine, nil
}

const (
	ulidAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	ulidLength   = 26
	ulidTimeLen  = 10 // characters of it
)

// ulidTime reads the time of a ULID in its one spelling.
func ulidTime(id string) (time.Time, bool) {
	if len(id) != ulidLength || id[0] > '7' {
		return time.Time{}, false
	}
	var millis int64
	for i := range len(id) {
		digit := strings.IndexByte(ulidAlphabet, id[i])
		if digit < 0 {
			return time.Time{}, false
		}
		if i < ulidTimeLen {
			millis = millis<<5 | int64(digit)
		}
	}
	return time.UnixMilli(millis), true
}

// derivedID is the id under which this caller's record is stored where
// another's has its id: of the same time, the same at every retry, and reserved,
// so that nobody can be there first.
func (s *shipment) derivedID(id string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{s.actor.Tenant, s.actor.Name, id}, "\x00")))
	return ReserveID(id[:ulidTimeLen] + crockford(sum[:10]))
}

// markLength is how many characters of a reserved id follow from the others: of
// the ids that PEPs make by chance, one in a million is reserved.
const markLength = 4

// ReserveID makes a ULID one that the server alone gives: shipped records
// cannot bear it. ULIDs of one time that differ in their last 12 characters
// stay different.
func ReserveID(id string) string {
	at, rest := id[:ulidTimeLen], id[ulidTimeLen+markLength:]
	var buf [64]byte
	sum := sha256.Sum256(append(append(append(buf[:0], "xiezhi reserved id\x00"...), at...), rest...))
	bits := binary.BigEndian.Uint32(sum[:])
	reserved := append(buf[:0], at...)
	for i := range markLength {
		reserved = append(reserved, ulidAlphabet[bits>>(27-5*i)&31])
	}
	return string(append(reserved, rest...))
}

// IsReservedID reports whether an id is one that ReserveID makes.
func IsReservedID(id string) bool { return len(id) == ulidLength && ReserveID(id) == id }

var crockfordEncoding = base32.NewEncoding(ulidAlphabet).WithPadding(base32.NoPadding)

func crockford(data []byte) string { return crockfordEncoding.EncodeToString(data) }
