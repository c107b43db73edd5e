package serve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/feed"
	"github.com/xiezhi-project/xiezhi/pap"
)

// keyring is the keys of this node: those of its folder, under the newest key
// set of the folder and of the log. A set that is newer in the folder goes into
// the log, where every node finds it; a folder that is older than the log signs
// only with what the log's set still lets sign.
type keyring struct {
	dir   string
	pap   *pap.Service
	actor pap.Actor
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex
	folder  *trust.Ring // as it was opened last
	current *trust.Ring
	stamp   string // of the files as they were opened last
	kept    uint64 // version of the newest set in the log
	// changed is told of every new ring, one at a time; it may be nil.
	changed func(*trust.Ring) error
}

// openKeys opens the folder of keys. Where the database has no keys either, it
// makes them: that is the first start of an installation.
func openKeys(ctx context.Context, dir string, p *pap.Service, actor pap.Actor, log *slog.Logger) (*keyring, error) {
	k := &keyring{dir: dir, pap: p, actor: actor, now: time.Now, log: log}
	kept, err := p.Keys(ctx)
	known := err == nil
	if err != nil && !errors.Is(err, pap.ErrNotFound) {
		return nil, fmt.Errorf("read the keys' record: %w", err)
	}
	k.stamp = k.stampNow()
	k.folder, err = trust.OpenRing(dir, k.now())
	if errors.Is(err, fs.ErrNotExist) {
		if known {
			return nil, fmt.Errorf("%w\nthis database's installation has keys already: copy the folder of keys of another of its nodes to %s, or name it in keys", err, dir)
		}
		if k.folder, err = trust.NewRing(dir, "xiezhi-"+strings.ToLower(newID()), k.now()); err != nil {
			return nil, err
		}
		k.stamp = k.stampNow()
		log.Warn("made the keys of this installation: give all of its nodes the same folder, keep a copy, and take the root key to a safe place",
			"folder", dir, "root_key", filepath.Join(dir, trust.RootKeyFile), "trust", k.trustFile())
	}
	if err != nil {
		return nil, err
	}
	k.current = k.folder
	if known {
		if err := k.take(kept); err != nil {
			return nil, err
		}
	}
	return k, k.keep(ctx)
}

// trustFile is what PEPs are configured with.
func (k *keyring) trustFile() string { return filepath.Join(k.dir, trust.RootFile) }

// ring returns the keys at hand.
func (k *keyring) ring() *trust.Ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// sign signs with the newest key that may.
func (k *keyring) sign(kind trust.Kind, body any) (string, error) {
	return k.ring().Sign(kind, body, k.now())
}

// keep puts the set at hand into the log, where it is newer.
func (k *keyring) keep(ctx context.Context) error {
	k.mu.Lock()
	set, kept := k.current.Set(), k.kept
	k.mu.Unlock()
	if set.Version() <= kept {
		return nil
	}
	newest, _, err := k.pap.KeepKeys(ctx, k.actor, pap.SignedKeys{Version: set.Version(), Signed: set.Signed()})
	if err != nil {
		return fmt.Errorf("store the key set: %w", err)
	}
	return k.take(newest)
}

// take goes over to a set of the log, unless the one at hand is newer.
func (k *keyring) take(stored pap.SignedKeys) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = max(k.kept, stored.Version)
	if set := k.current.Set(); stored.Version < set.Version() && issuer(stored.Signed) == set.Installation() || stored.Signed == set.Signed() {
		return nil // ours is newer, and maybe of a root that did not sign the old one
	}
	next, err := k.current.With(stored.Signed, k.now())
	if err != nil {
		return fmt.Errorf("the database's key set does not verify by %s; this folder is another installation's: %w", k.trustFile(), err)
	}
	if next.Set().Version() > k.folder.Set().Version() {
		k.log.Warn("the folder of keys is older than the key set in the database: this node signs only with keys that both know; copy the folder from the node that changed it",
			"folder", k.dir, "version", k.folder.Set().Version(), "newest", next.Set().Version())
	}
	return k.use(next)
}

// issuer is whose set it claims to be; nothing is verified.
func issuer(signed string) string {
	var claims struct {
		Issuer string `json:"iss"`
	}
	if parts := strings.Split(signed, "."); len(parts) == 3 {
		if text, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(text, &claims) == nil {
			return claims.Issuer
		}
	}
	return ""
}

func (k *keyring) use(next *trust.Ring) error {
	if k.changed != nil {
		if err := k.changed(next); err != nil {
			return err
		}
	}
	k.current = next
	return nil
}

// onChange tells of the ring at hand, and then of each new one.
func (k *keyring) onChange(changed func(*trust.Ring) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed = changed
	return changed(k.current)
}

// update takes key sets out of the log.
func (k *keyring) update(u feed.Update) {
	for _, r := range u.Records {
		if r.Kind != pap.KindKeys {
			continue
		}
		var stored pap.SignedKeys
		err := json.Unmarshal(r.Body, &stored)
		if err == nil {
			err = k.take(stored)
		}
		if err != nil {
			k.log.Error("cannot take the key set of the log", "position", r.Position, "error", err)
		}
	}
}

// watchEvery is how often the folder is looked at.
const watchEvery = time.Second

// watch takes over what changes in the folder until ctx ends.
func (k *keyring) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	var told string
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var text string
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != told && text != "" {
			k.log.Error("cannot take over the folder of keys; it is looked at again", "folder", k.dir, "error", text)
		}
		told = text
	}
}

// look opens the folder again if it changed, and stores a newer set.
func (k *keyring) look(ctx context.Context) error {
	if err := k.reopen(); err != nil {
		return err
	}
	return k.keep(ctx)
}

func (k *keyring) reopen() error {
	stamp := k.stampNow()
	k.mu.Lock()
	defer k.mu.Unlock()
	if stamp == k.stamp {
		return nil
	}
	folder, err := trust.OpenRing(k.dir, k.now())
	if err != nil {
		return err
	}
	k.stamp = stamp
	next := folder
	if newest := k.current.Set(); folder.Set().Version() < newest.Version() {
		if next, err = folder.With(newest.Signed(), k.now()); err != nil {
			return err
		}
	}
	k.folder = folder
	return k.use(next)
}

// stampNow tells whether the folder changed: names, sizes and times.
func (k *keyring) stampNow() string {
	var b strings.Builder
	for _, name := range []string{trust.RootFile, trust.SetFile, "private"} {
		if info, err := os.Stat(filepath.Join(k.dir, name)); err == nil {
			fmt.Fprintf(&b, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}
