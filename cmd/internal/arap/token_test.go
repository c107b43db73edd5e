package arap_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/arap"
)

// desk signs with keys in a folder of their own, by a clock that tests set.
type desk struct {
	*arap.Tokens
	dir string
	now time.Time
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{dir: filepath.Join(t.TempDir(), "keys"), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	ring, err := trust.NewRing(d.dir, "test", d.now)
	if err != nil {
		t.Fatal(err)
	}
	d.Tokens = &arap.Tokens{Ring: func() *trust.Ring { return ring }, Now: func() time.Time { return d.now }}
	return d
}

// reopen takes what changed in the folder.
func (d *desk) reopen(t testing.TB) {
	t.Helper()
	ring, err := trust.OpenRing(d.dir, d.now)
	if err != nil {
		t.Fatal(err)
	}
	d.Ring = func() *trust.Ring { return ring }
}

func (d *desk) denial() arap.Denial {
	return arap.Denial{
		ExpiresAt: d.now.Add(time.Minute), EvaluationID: "e-1", Context: []string{"reason"}, Hash: "h", Tenant: "acme", Caller: "acme/service:gateway",
	}
}

func (d *desk) signed(t testing.TB) string {
	t.Helper()
	token, err := d.SignDenial(d.denial())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATokenIsWhatWasSigned(t *testing.T) {
	d := newDesk(t)
	token := d.signed(t)
	got, id, err := d.OpenDenial(token)
	if err != nil || id == "" || !reflect.DeepEqual(got, d.denial()) {
		t.Errorf("%+v %q %v", got, id, err)
	}
	var claims map[string]any
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	for _, name := range []string{"iss", "aud", "iat", "exp", "jti", "denial_expires_at", "binding_context_members", "binding_hash", "tenant", "caller"} {
		if _, ok := claims[name]; !ok || err != nil {
			t.Errorf("no claim %s: %v %s", name, err, payload)
		}
	}
	again, _, err := d.OpenDenial(d.signed(t))
	if second, other, _ := d.OpenDenial(d.signed(t)); err != nil || other == id || !reflect.DeepEqual(second, again) {
		t.Error("two tokens have one id")
	}
	want := arap.Approval{ID: "grt-1", Task: "cheq-1", Tenant: "acme", Until: d.now.Add(time.Hour)}
	state, err := d.SignApproval(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.OpenApproval(state); err != nil || got != want {
		t.Errorf("%+v %v", got, err)
	}
}

func TestTokensThatAreNoneAreRefused(t *testing.T) {
	d := newDesk(t)
	token := d.signed(t)
	parts := strings.Split(token, ".")
	encode := base64.RawURLEncoding.EncodeToString
	head, _ := base64.RawURLEncoding.DecodeString(parts[0])
	state, err := d.SignApproval(arap.Approval{ID: "grt-1", Until: d.now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	release, err := d.Ring().Sign(trust.KindRelease, map[string]string{}, d.now)
	if err != nil {
		t.Fatal(err)
	}
	other := newDesk(t)
	for name, forged := range map[string]string{
		"nothing":                      "",
		"one part":                     "x",
		"no algorithm":                 encode([]byte(strings.Replace(string(head), "EdDSA", "none", 1))) + "." + parts[1] + ".",
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"a symmetric algorithm":        encode([]byte(strings.Replace(string(head), "EdDSA", "HS256", 1))) + "." + parts[1] + "." + parts[2],
		"a header spelt otherwise":     encode([]byte(" "+string(head))) + "." + parts[1] + "." + parts[2],
		"other claims":                 parts[0] + "." + encode([]byte(`{"iss":"test","aud":"xiezhi:access-requests","exp":9999999999,"jti":"x","tenant":"globex"}`)) + "." + parts[2],
		"an approval's state":          state,
		"a release's signature":        release,
		"another installation's token": other.signed(t),
		"a very long text":             strings.Repeat("a", 1<<20),
		"a token and a line":           token + "\n",
	} {
		if _, _, err := d.OpenDenial(forged); !errors.Is(err, trust.ErrUnsigned) || errors.Is(err, arap.ErrExpired) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.OpenApproval(token); !errors.Is(err, trust.ErrUnsigned) {
		t.Errorf("a denial as an approval: %v", err)
	}
}

func TestATokenEndsWhenItSays(t *testing.T) {
	d := newDesk(t)
	token := d.signed(t)
	d.now = d.now.Add(time.Minute - time.Second)
	if _, _, err := d.OpenDenial(token); err != nil {
		t.Error(err)
	}
	d.now = d.now.Add(time.Second)
	if _, _, err := d.OpenDenial(token); !errors.Is(err, arap.ErrExpired) {
		t.Errorf("past its end: %v", err)
	}
}

func TestKeysRotateAndAreRevoked(t *testing.T) {
	d := newDesk(t)
	root := filepath.Join(d.dir, trust.RootKeyFile)
	token, first := d.signed(t), d.JWKS().Keys
	d.now = d.now.Add(time.Second)
	if _, err := trust.Rotate(d.dir, root, trust.PurposeAccessRequests, d.now, time.Hour, d.now); err != nil {
		t.Fatal(err)
	}
	d.reopen(t)
	if _, _, err := d.OpenDenial(token); err != nil || len(d.JWKS().Keys) != 2 {
		t.Errorf("after a rotation: %v, %+v", err, d.JWKS())
	}
	if _, err := trust.Revoke(d.dir, root, first[0].ID, "lost", d.now); err != nil {
		t.Fatal(err)
	}
	d.reopen(t)
	if _, _, err := d.OpenDenial(token); !errors.Is(err, trust.ErrRevoked) {
		t.Errorf("of a revoked key: %v", err)
	}
	if keys := d.JWKS().Keys; len(keys) != 1 || keys[0].ID == first[0].ID || keys[0].KeyType != "OKP" {
		t.Errorf("%+v", keys)
	}
}

func FuzzOpenDenial(f *testing.F) {
	d := newDesk(f)
	token := d.signed(f)
	f.Add(token)
	f.Add("")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := d.OpenDenial(text); err == nil && text != token {
			t.Errorf("opened: %q", text)
		}
	})
}
