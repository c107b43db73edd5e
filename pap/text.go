package pap

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// CheckText refuses, with ErrText, what PostgreSQL cannot hold as text and
// SQLite would: invalid UTF-8 and U+0000. Both stores ask it first, so that
// they answer alike.
func CheckText(texts ...string) error {
	for _, text := range texts {
		if !storable(text) {
			return fmt.Errorf("%.64q: %w", text, ErrText)
		}
	}
	return nil
}

func storable(text string) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0
}

// RepairAudit replaces in the record's names what CheckText refuses by
// U+FFFD. An audit record is never refused for its text: refusing would let a
// caller who can choose a name go unrecorded, or hold up the records behind.
func RepairAudit(r authz.AuditRecord) authz.AuditRecord {
	for _, text := range []*string{
		&r.ID, (*string)(&r.Kind), &r.Tenant, &r.Actor, &r.Subject, &r.Action, &r.Resource, &r.Effect, &r.Revision,
	} {
		if !storable(*text) {
			*text = strings.ReplaceAll(strings.ToValidUTF8(*text, "\uFFFD"), "\x00", "\uFFFD")
		}
	}
	return r
}
