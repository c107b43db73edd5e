package pap

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// MaxKeyBytes bounds the keys of one row together. PostgreSQL's indexes hold
// rows of 2,704 bytes, SQLite's longer ones.
const MaxKeyBytes = 2048

// CheckText refuses, with ErrText, what PostgreSQL cannot hold as text and
// SQLite would: invalid UTF-8 and U+0000. Both stores ask it first, so that
// they answer alike.
func CheckText(texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return fmt.Errorf("%.64q: %w", text, ErrText)
		}
	}
	return nil
}

// CheckKeys is CheckText for the keys of one row, which [MaxKeyBytes] bounds.
func CheckKeys(keys ...string) error {
	total := 0
	for _, key := range keys {
		total += len(key)
	}
	if total > MaxKeyBytes {
		return fmt.Errorf("%d bytes of keys, %d are the most: %w", total, MaxKeyBytes, ErrText)
	}
	return CheckText(keys...)
}

// RepairAudit makes the record's names storable: what CheckText refuses becomes
// U+FFFD, and what is longer than any valid name is cut. An audit record is
// never refused for its text: that would let a caller who can choose a name go
// unrecorded, or hold up the records behind.
func RepairAudit(r authz.AuditRecord) authz.AuditRecord {
	for _, field := range [...]struct {
		text *string
		max  int // of the first three together an index row is made
	}{
		{&r.ID, 64}, {&r.Tenant, 256}, {&r.Subject, 1536}, {(*string)(&r.Kind), 64}, {&r.Actor, 1536},
		{&r.Action, 1536}, {&r.Resource, 1536}, {&r.Effect, 64}, {&r.Revision, 64},
	} {
		text := *field.text
		if CheckText(text) != nil {
			text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
		}
		if len(text) > field.max {
			text = strings.ToValidUTF8(text[:field.max], "") // drops half a character at the end
		}
		*field.text = text
	}
	return r
}
