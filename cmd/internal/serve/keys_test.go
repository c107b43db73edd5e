package serve

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/config"
	"github.com/xiezhi-project/xiezhi/pap"
)

func openKeyring(t *testing.T, core *Core, dir string, log *slog.Logger) (*keyring, error) {
	t.Helper()
	return openKeys(t.Context(), dir, core.PAP, pap.Actor{Name: "node:test"}, log)
}

func openEmpty(t *testing.T) *Core {
	t.Helper()
	c := config.Defaults()
	c.Data = t.TempDir()
	return openBare(t, c)
}

func mustKeyring(t *testing.T, core *Core, dir string) *keyring {
	t.Helper()
	k, err := openKeyring(t, core, dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func copyKeys(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	private, err := filepath.Glob(filepath.Join(to, "*", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(private, filepath.Join(to, trust.RootKeyFile)) {
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFirstStartMakesKeysAndSaysSo(t *testing.T) {
	core := openEmpty(t)
	dir := filepath.Join(t.TempDir(), "keys")
	var log bytes.Buffer
	k, err := openKeyring(t, core, dir, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), dir) || !strings.Contains(log.String(), "keep a copy") {
		t.Errorf("it says %s", log.String())
	}
	stored, err := core.PAP.Keys(t.Context())
	if err != nil || stored.Version != 1 || stored.Signed != k.ring().Set().Signed() {
		t.Errorf("stored %+v, %v", stored, err)
	}
	if again := mustKeyring(t, core, dir); again.ring().Set().Signed() != stored.Signed {
		t.Error("a second start has other keys")
	}
}

func TestNodeWithoutTheInstallationsKeysDoesNotStart(t *testing.T) {
	core := openEmpty(t)
	mustKeyring(t, core, filepath.Join(t.TempDir(), "keys"))
	elsewhere := filepath.Join(t.TempDir(), "keys")
	if _, err := openKeyring(t, core, elsewhere, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "copy the folder") {
		t.Errorf("without keys: %v", err)
	}
	if _, err := os.Stat(elsewhere); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("keys were made: %v", err)
	}
	if _, err := trust.NewRing(elsewhere, "another", time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := openKeyring(t, core, elsewhere, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another installation") {
		t.Errorf("with another installation's keys: %v", err)
	}
}

// A key is revoked in one node's folder. The set travels the log; a node whose
// folder is older signs no more with the key, and goes on when it gets the
// newer folder.
func TestRevokedKeySignsNowhereOnceTheSetIsInTheLog(t *testing.T) {
	core := openEmpty(t)
	here, there := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "keys")
	first := mustKeyring(t, core, here)
	copyKeys(t, here, there)
	second := mustKeyring(t, core, there)
	core.distribute.join(second.update)
	var told []uint64
	if err := second.onChange(func(r *trust.Ring) error { told = append(told, r.Set().Version()); return nil }); err != nil {
		t.Fatal(err)
	}
	signs := func(k *keyring) bool {
		_, err := k.sign(trust.KindHeartbeat, struct{}{})
		return err == nil
	}
	_, key, err := first.ring().Signer(trust.PurposeLog, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Revoke(here, filepath.Join(here, trust.RootKeyFile), key.ID, "lost", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := first.look(t.Context()); err != nil { // stores, and with it tells the feed
		t.Fatal(err)
	}
	if got := second.ring().Set().Version(); got < 2 || len(told) < 2 || told[len(told)-1] != got {
		t.Fatalf("the other node has version %d, and told of %v", got, told)
	}
	if signed, err := second.sign(trust.KindHeartbeat, struct{}{}); err == nil && strings.Contains(signed, key.ID) {
		t.Error("a revoked key signs on a node with the older folder")
	}
	for _, k := range []*keyring{first, second} {
		if k.ring().Holds(key.ID) {
			t.Error("the revoked key is still at hand")
		}
	}
	// The newer folder comes, and what it lets sign signs here too.
	if err := os.RemoveAll(there); err != nil {
		t.Fatal(err)
	}
	copyKeys(t, here, there)
	if err := second.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if signs(first) != signs(second) {
		t.Errorf("here %v, there %v", signs(first), signs(second))
	}
	// A folder put back to an older state does not bring the key back.
	old := mustKeyring(t, core, there)
	if old.ring().Holds(key.ID) {
		t.Error("a start brings the revoked key back")
	}
}
