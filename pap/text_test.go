package pap

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func TestCheckKeysBoundsThemTogether(t *testing.T) {
	half := strings.Repeat("k", MaxKeyBytes/2)
	if err := CheckKeys(half, half); err != nil {
		t.Error(err)
	}
	for name, keys := range map[string][]string{
		"too long together": {half, half, "k"},
		"U+0000":            {"a", "\x00"},
		"not UTF-8":         {"\xff"},
	} {
		if err := CheckKeys(keys...); !errors.Is(err, ErrText) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRepairAuditKeepsGoodTextAndBoundsTheRest(t *testing.T) {
	good := authz.AuditRecord{
		ID: "01K", Kind: authz.AuditDecision, Tenant: "acme", Actor: "service:web", Subject: "user:李伟", Action: "a.b",
		Resource: "t:" + strings.Repeat("i", authz.MaxIDLength), Effect: "DENY", Revision: "r1.g1",
	}
	if got := RepairAudit(good); !reflect.DeepEqual(got, good) {
		t.Errorf("changed to %+v", got)
	}

	bad := strings.Repeat("李", 1000) + "\x00\xff"
	got := RepairAudit(authz.AuditRecord{
		ID: bad, Kind: authz.AuditKind(bad), Tenant: bad, Actor: bad, Subject: bad, Action: bad, Resource: bad, Effect: bad, Revision: bad,
	})
	v := reflect.ValueOf(got)
	for i := range v.NumField() {
		if text := v.Field(i); text.Kind() == reflect.String && (text.Len() == 0 || text.Len() > 1536 || !utf8.ValidString(text.String())) {
			t.Errorf("%s: %d bytes, %q", v.Type().Field(i).Name, text.Len(), text.String())
		}
	}
	if indexed := len(got.ID) + len(got.Tenant) + len(got.Subject); indexed > MaxKeyBytes {
		t.Errorf("%d bytes would be indexed", indexed)
	}
	if got := RepairAudit(authz.AuditRecord{Subject: "a\x00b\xff"}).Subject; got != "a\uFFFDb\uFFFD" {
		t.Errorf("got %q", got)
	}
}
