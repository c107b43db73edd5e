package gitsource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/plumbing/transport/server"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Limits of what one remote may send.
const (
	maxAdvertised = 32 << 20 // bytes of the list of refs
	maxPack       = 1 << 30  // bytes of one pack
	maxErrorBody  = 4 << 10  // bytes of an answer that says no
	maxPacks      = 100      // packs of the bare repository, before it is fetched anew
	fetchTimeout  = 5 * time.Minute
)

// headRef is where the bare repository keeps what was fetched last.
const headRef = plumbing.ReferenceName("refs/xiezhi/fetched")

// clone is the bare repository of one address. It is a cache: whatever is
// wrong with it is mended by fetching anew. It serves one goroutine.
type clone struct {
	address   Address
	dir       string
	tokenFile string
	store     *filesystem.Storage
}

func newClone(a Address, data, tokenFile string) *clone {
	sum := sha256.Sum256([]byte(a.Remote + "\x00" + a.Branch))
	return &clone{address: a, dir: filepath.Join(data, "git", hex.EncodeToString(sum[:8])), tokenFile: tokenFile}
}

// open opens the bare repository, made where there is none. What an earlier
// fetch left half done is removed.
func (c *clone) open() error {
	packs := filepath.Join(c.dir, "objects", "pack")
	entries, _ := os.ReadDir(packs) // a missing folder has none
	if len(entries) > 2*maxPacks {
		if err := c.forget(); err != nil {
			return err
		}
		entries = nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "tmp_") {
			if err := os.Remove(filepath.Join(packs, e.Name())); err != nil {
				return fmt.Errorf("clean up after an earlier fetch: %w", err)
			}
		}
	}
	if c.store != nil {
		return nil
	}
	if err := os.MkdirAll(packs, 0o700); err != nil {
		return fmt.Errorf("make the bare repository: %w", err)
	}
	c.store = filesystem.NewStorageWithOptions(osfs.New(c.dir), cache.NewObjectLRU(16*cache.MiByte), filesystem.Options{})
	if err := c.store.Init(); err != nil {
		return fmt.Errorf("make the bare repository: %w", err)
	}
	return nil
}

// forget removes the bare repository.
func (c *clone) forget() error {
	c.store = nil
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove the bare repository: %w", err)
	}
	return nil
}

// errCache marks errors of the bare repository on disk.
var errCache = errors.New("the bare repository is not good")

// fetch brings the branch's head and all it descends from here, and returns
// its id.
func (c *clone) fetch(ctx context.Context) (plumbing.Hash, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if err := c.open(); err != nil {
		return plumbing.ZeroHash, err
	}
	session, err := c.connect()
	if err != nil {
		return plumbing.ZeroHash, err
	}
	defer session.Close() //nolint:errcheck // neither transport has anything to tell
	advertised, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return plumbing.ZeroHash, fmt.Errorf("list the refs of %s: %w", c.address.Remote, err)
	}
	head, err := c.head(advertised)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	known := plumbing.ZeroHash
	if ref, err := c.store.Reference(headRef); err == nil && c.store.HasEncodedObject(ref.Hash()) == nil {
		known = ref.Hash()
	}
	if known == head {
		return head, nil
	}
	if err := c.download(ctx, session, advertised, head, known); err != nil {
		return plumbing.ZeroHash, err
	}
	if err := c.store.SetReference(plumbing.NewHashReference(headRef, head)); err != nil {
		return plumbing.ZeroHash, fmt.Errorf("%w: note what was fetched: %w", errCache, err)
	}
	return head, nil
}

// head finds the branch among the advertised refs.
func (c *clone) head(advertised *packp.AdvRefs) (plumbing.Hash, error) {
	if c.address.Branch == "" {
		if advertised.Head == nil {
			return plumbing.ZeroHash, fmt.Errorf("%s has no HEAD; name a branch: %s@<branch>", c.address.Remote, c.address.Remote)
		}
		return *advertised.Head, nil
	}
	if head, ok := advertised.References[plumbing.NewBranchReferenceName(c.address.Branch).String()]; ok {
		return head, nil
	}
	return plumbing.ZeroHash, fmt.Errorf("%s has no branch %s", c.address.Remote, c.address.Branch)
}

// download fetches a pack into a file, checks what it would unpack to, and
// only then takes it in.
func (c *clone) download(ctx context.Context, session transport.UploadPackSession, advertised *packp.AdvRefs, head, known plumbing.Hash) error {
	request := packp.NewUploadPackRequestFromCapabilities(advertised.Capabilities)
	if advertised.Capabilities.Supports(capability.NoProgress) {
		if err := request.Capabilities.Set(capability.NoProgress); err != nil {
			return err
		}
	}
	request.Wants = []plumbing.Hash{head}
	if known != plumbing.ZeroHash && c.remoteHas(known) {
		request.Haves = []plumbing.Hash{known}
	}
	response, err := session.UploadPack(ctx, request)
	if err != nil {
		return fmt.Errorf("fetch from %s: %w", c.address.Remote, err)
	}
	defer response.Close() //nolint:errcheck // it was read to its end, or is given up
	var pack io.Reader = response
	switch {
	case request.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, response)
	case request.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, response)
	}
	file, err := os.CreateTemp(filepath.Join(c.dir, "objects", "pack"), "tmp_fetch_")
	if err != nil {
		return fmt.Errorf("keep the pack: %w", err)
	}
	defer os.Remove(file.Name()) //nolint:errcheck // open removes what is left
	defer file.Close()           //nolint:errcheck // it is only read
	n, err := io.Copy(file, io.LimitReader(contextReader{ctx, pack}, maxPack+1))
	switch {
	case err != nil:
		return fmt.Errorf("fetch from %s: %w", c.address.Remote, err)
	case n > maxPack:
		return fmt.Errorf("fetch from %s: the pack is over %d bytes", c.address.Remote, maxPack)
	}
	if err := checkPack(ctx, file); err != nil {
		return fmt.Errorf("fetch from %s: %w", c.address.Remote, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := packfile.WritePackfileToObjectStorage(c.store, contextReader{ctx, file}); err != nil {
		return fmt.Errorf("%w: take the pack in: %w", errCache, err)
	}
	return nil
}

// contextReader ends a copy when the context does.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// connect opens a session with the remote.
func (c *clone) connect() (transport.UploadPackSession, error) {
	endpoint, err := transport.NewEndpoint(c.address.Remote)
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	if endpoint.Protocol == "file" {
		return server.NewClient(folderLoader{}).NewUploadPackSession(endpoint, nil)
	}
	auth, err := c.auth()
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: boundedTransport{http.DefaultTransport}, CheckRedirect: sameHost}
	return githttp.NewClient(client).NewUploadPackSession(endpoint, auth)
}

// auth reads the token anew for each fetch, so that it can be rotated. The
// file holds a token, or <user>:<token>.
func (c *clone) auth() (transport.AuthMethod, error) {
	if c.tokenFile == "" {
		return nil, nil
	}
	secret, err := readSecret("policies_token_file", c.tokenFile)
	if err != nil {
		return nil, err
	}
	user, token, named := strings.Cut(secret, ":")
	if !named {
		user, token = "xiezhi", secret // GitHub, GitLab, Gitea: any user beside a token
	}
	return &githttp.BasicAuth{Username: user, Password: token}, nil
}

// maxSecret bounds a file that holds one secret.
const maxSecret = 64 << 10

func readSecret(key, path string) (string, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	defer file.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" || len(data) > maxSecret {
		return "", fmt.Errorf("%s: %s: want one secret of at most %d bytes", key, path, maxSecret)
	}
	return secret, nil
}

// sameHost refuses redirects that leave the host: another host's answer is not
// what the operator asked for.
func sameHost(r *http.Request, via []*http.Request) error {
	if from := via[0].URL; r.URL.Host != from.Host || r.URL.Scheme != from.Scheme {
		return fmt.Errorf("redirected to %s://%s; name that address if it is meant", r.URL.Scheme, r.URL.Host)
	}
	return nil
}

// boundedTransport bounds what go-git would read into memory.
type boundedTransport struct{ next http.RoundTripper }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	limit := int64(maxPack + 1<<20)
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		limit = maxErrorBody
	case r.Method == http.MethodGet:
		limit = maxAdvertised
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, limit), response.Body}
	return response, nil
}

// folderLoader opens a repository on this machine, bare or not.
type folderLoader struct{}

func (folderLoader) Load(endpoint *transport.Endpoint) (storer.Storer, error) {
	dir := endpoint.Path
	if info, err := os.Stat(filepath.Join(dir, ".git")); err == nil && info.IsDir() {
		dir = filepath.Join(dir, ".git")
	}
	if _, err := os.Stat(filepath.Join(dir, "objects")); err != nil {
		return nil, fmt.Errorf("%s: %w", endpoint.Path, transport.ErrRepositoryNotFound)
	}
	return filesystem.NewStorage(osfs.New(dir), cache.NewObjectLRU(16*cache.MiByte)), nil
}

// remoteHas reports whether the remote can start from a commit. A git server
// says so itself; for a folder it is looked up, since after a forced push the
// commit may be gone there.
func (c *clone) remoteHas(h plumbing.Hash) bool {
	endpoint, err := transport.NewEndpoint(c.address.Remote)
	if err != nil || endpoint.Protocol != "file" {
		return err == nil
	}
	store, err := folderLoader{}.Load(endpoint)
	return err == nil && store.HasEncodedObject(h) == nil
}
