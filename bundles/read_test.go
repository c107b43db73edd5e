package bundles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

func TestABundleReadsBackWhatWasSigned(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("d/", 200) + "名.rego" // longer than a plain tar header holds
	for name, c := range map[string]*Content{"two releases": r.new, "no files": contentOf(t), "a long path": contentOf(t, File{long, []byte("x")})} {
		data := r.snapshot(t, c)
		got, err := r.read(data, nil)
		if err != nil || got.Content.Digest() != c.Digest() || got.Release != 42 || got.Tenants[0] != "acme" {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		if signer, key, err := r.ring.Signer(trust.PurposeReleases, noon); err != nil || signer == nil || key.ID != got.KeyID {
			t.Errorf("%s: signed by %s, want %s (%v)", name, got.KeyID, key.ID, err)
		}
		if again := r.snapshot(t, c); !bytes.Equal(again, data) {
			t.Errorf("%s: written again it has other bytes", name)
		}
		if again := pack(t, handMade(got)...); !bytes.Equal(again, data) {
			t.Errorf("%s: the entries by hand give other bytes: the attacks below attack something else", name)
		}
	}
	delta := r.delta(t, r.old, r.new)
	got, err := r.read(delta, r.old)
	if err != nil || got.Content.Digest() != r.new.Digest() {
		t.Fatalf("the delta gives %+v, %v", got, err)
	}
	seen, err := Inspect(bytes.NewReader(delta))
	if err != nil || !seen.Delta || seen.Base != r.old.Digest() || fmt.Sprint(seen.Removed) != "[gone.rego]" || len(seen.Files) != 2 || seen.KeyID != got.KeyID {
		t.Errorf("the delta looks like %+v, %v", seen, err)
	}
}

func handMade(b *Bundle) []entry {
	entries := []entry{{name: manifestEntry, data: b.Signed}}
	for _, f := range b.Content.Files() {
		entries = append(entries, entry{name: f.Path, data: string(f.Data)})
	}
	return entries
}

func TestAnyTwoReleasesAreADeltaApart(t *testing.T) {
	r := newRig(t)
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string) *Content {
			files := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c/d", "c/e", "f"}), rapid.SampledFrom([]string{"", "1", "2"})).Draw(rt, label)
			var list []File
			for p, text := range files {
				list = append(list, File{p, []byte(text)})
			}
			return contentOf(t, list...)
		}
		from, to := draw("from"), draw("to")
		got, err := r.read(r.delta(t, from, to), from)
		if err != nil || got.Content.Digest() != to.Digest() {
			rt.Fatalf("%+v, %v", got, err)
		}
		if got.Content.Digest() != to.Digest() {
			rt.Fatal("the leaves are not the files'")
		}
	})
}

// Every row is refused for its own reason, which the error names.
func TestBundlesThatAreNotWhatWasSignedAreRefused(t *testing.T) {
	r := newRig(t)
	good, err := r.read(r.snapshot(t, r.new), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := entry{name: manifestEntry, data: good.Signed}
	a, bc, n := entry{name: "a.rego", data: "a"}, entry{name: "b/c.rego", data: "changed"}, entry{name: "new.rego"}
	with := func(e entry, change func(*tar.Header)) entry { e.change = change; return e }
	typed := func(typeflag byte, link string) []byte {
		return pack(t, m, with(entry{name: "a.rego"}, func(h *tar.Header) { h.Typeflag, h.Linkname = typeflag, link }), bc, n)
	}
	named := func(name string) []byte { return pack(t, m, entry{name: name}, a, bc, n) }
	told := func(change func(*Manifest)) []byte {
		changed := good.Manifest
		change(&changed)
		signed, err := r.sign(trust.KindRelease, changed)
		if err != nil {
			t.Fatal(err)
		}
		return pack(t, entry{name: manifestEntry, data: signed}, a, bc, n)
	}
	plain := gunzip(t, r.snapshot(t, r.new))
	for name, row := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":                      {nil, "gzip"},
		"no gzip":                      {plain, "gzip"},
		"an empty tar":                 {pack(t), "no entries"},
		"a tar cut off":                {gzipped(t, plain[:700], nil), `cut off after`},
		"a file cut off":               {gzipped(t, plain[:len(plain)-1024-512-512-509], nil), "unexpected EOF"},
		"data after the tar":           {gzipped(t, append(bytes.Clone(plain), "x"...), nil), "after the end of the tar"},
		"a tar after the tar":          {gzipped(t, append(bytes.Clone(plain), plain...), nil), "after the end of the tar"},
		"a second gzip member":         {append(r.snapshot(t, r.new), gzipped(t, nil, nil)...), "after the end of the gzip member"},
		"bytes after the gzip":         {append(r.snapshot(t, r.new), 0), "after the end of the gzip member"},
		"a name in the gzip header":    {gzipped(t, plain, func(h *gzip.Header) { h.Name = "x" }), "gzip: a name"},
		"a comment in the gzip header": {gzipped(t, plain, func(h *gzip.Header) { h.Comment = "x" }), "gzip: a name"},
		"extras in the gzip header":    {gzipped(t, plain, func(h *gzip.Header) { h.Extra = []byte("x") }), "gzip: a name"},

		"a parent":           {named("../a.rego"), `"../a.rego"`},
		"a parent inside":    {named("a/../../b.rego"), `"a/../../b.rego"`},
		"an absolute path":   {named("/etc/passwd"), `"/etc/passwd"`},
		"a dot":              {named("./a.rego"), `"./a.rego"`},
		"a hidden file":      {named(".git"), `".git"`},
		"a backslash":        {named(`..\a`), "forward slashes"},
		"a drive":            {named("c:a"), `"c:a"`},
		"a line break":       {named("a\nb"), `"a\nb"`},
		"a folder":           {pack(t, m, with(entry{name: "a/"}, func(h *tar.Header) { h.Typeflag = tar.TypeDir }), a, bc, n), "regular files"},
		"a symbolic link":    {typed(tar.TypeSymlink, "/etc/passwd"), "regular files"},
		"a hard link":        {typed(tar.TypeLink, "b/c.rego"), "regular files"},
		"a character device": {typed(tar.TypeChar, ""), "regular files"},
		"a block device":     {typed(tar.TypeBlock, ""), "regular files"},
		"a pipe":             {typed(tar.TypeFifo, ""), "regular files"},
		"a continuous file":  {typed(tar.TypeCont, ""), "regular files"},
		"global PAX records": {pack(t, m, with(entry{}, func(h *tar.Header) {
			*h = tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "b"}}
		}), a, bc, n), "regular files"},
		"a PAX record": {pack(t, m, with(a, func(h *tar.Header) {
			h.Format, h.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.user.x": "y"}
		}), bc, n), "PAX record"},
		"GNU's tar": {pack(t, m, with(a, func(h *tar.Header) { h.Format = tar.FormatGNU }), bc, n), "tar format"},
		"an owner":  {pack(t, m, with(a, func(h *tar.Header) { h.Uid = 1 }), bc, n), "owner"},
		"a set-uid": {pack(t, m, with(a, func(h *tar.Header) { h.Mode = 0o4755 }), bc, n), "mode"},
		"a time":    {pack(t, m, with(a, func(h *tar.Header) { h.ModTime = noon }), bc, n), "times"},
		"a time in PAX": {pack(t, m, with(a, func(h *tar.Header) {
			h.Format, h.AccessTime = tar.FormatPAX, noon
		}), bc, n), "times"},

		"two manifests":                {pack(t, m, m, a, bc, n), "second manifest"},
		"an unsigned one behind":       {pack(t, m, entry{name: unsignedEntry, data: "{}"}, a, bc, n), "second manifest"},
		"a manifest that is not first": {pack(t, a, m, bc, n), `"a.rego"`},
		"no manifest":                  {pack(t, a, bc, n), `"a.rego"`},
		"one path twice":               {pack(t, m, a, a, bc, n), "given twice"},
		"one path twice, apart":        {pack(t, m, a, bc, a, n), "sorted by path"},
		"files out of order":           {pack(t, m, bc, a, n), "sorted by path"},
		"a delta that comes late":      {pack(t, m, a, entry{name: deltaEntry, data: "{}"}, bc, n), "second entry"},

		"another byte":         {pack(t, m, entry{name: "a.rego", data: "b"}, bc, n), "digest"},
		"another path":         {pack(t, m, entry{name: "a.cedar", data: "a"}, bc, n), "digest"},
		"a file less":          {pack(t, m, a, bc), "digest"},
		"a file more":          {pack(t, m, a, bc, n, entry{name: "o.rego"}), "more files than the 3"},
		"a byte more":          {pack(t, m, a, bc, entry{name: "new.rego", data: "x"}), "more than the 8"},
		"a digest of others":   {told(func(m *Manifest) { m.Digest = r.old.Digest() }), "digest"},
		"fewer files told":     {told(func(m *Manifest) { m.Files-- }), "more files than the 2"},
		"more files told":      {told(func(m *Manifest) { m.Files++ }), "4 of 8 were signed for"},
		"fewer bytes told":     {told(func(m *Manifest) { m.Bytes-- }), "more than the 7"},
		"more bytes told":      {told(func(m *Manifest) { m.Bytes++ }), "3 of 9 were signed for"},
		"too many files told":  {told(func(m *Manifest) { m.Files = MaxFiles + 1 }), "a release holds at most"},
		"too many bytes told":  {told(func(m *Manifest) { m.Bytes = MaxBytes + 1 }), "a release holds at most"},
		"less than nothing":    {told(func(m *Manifest) { m.Bytes = -1 }), "a release holds at most"},
		"no number":            {told(func(m *Manifest) { m.Release = 0 }), "want a number"},
		"no audience":          {told(func(m *Manifest) { m.Tenants = nil }), "audience"},
		"an audience unsorted": {told(func(m *Manifest) { m.Tenants = []string{"b", "a"} }), "audience"},
		"all and some tenants": {told(func(m *Manifest) { m.Tenants = []string{"*", "a"} }), "audience"},
		"restoring the future": {told(func(m *Manifest) { m.Restores = 42 }), "restores 42"},
	} {
		got, err := r.read(row.data, nil)
		if err == nil || got != nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v; want it refused with %q", name, err, row.want)
		}
	}
}

func TestABundleCutOffAnywhereIsRefused(t *testing.T) {
	r := newRig(t)
	data := r.snapshot(t, r.new)
	for n := range data {
		if _, err := r.read(data[:n], nil); err == nil {
			t.Fatalf("%d of %d bytes pass", n, len(data))
		}
	}
}

// A signature that does not count is trust.ErrUnsigned, and says why.
func TestSignaturesThatDoNotCountAreRefused(t *testing.T) {
	r := newRig(t)
	m := manifest(r.new)
	signed := r.seal(t, m)
	parts := strings.Split(signed, ".")
	b64 := base64.RawURLEncoding.EncodeToString
	other := newRig(t)
	as := func(kind trust.Kind) string {
		text, err := r.sign(kind, m)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	expired := *r
	expired.dir = filepath.Join(t.TempDir(), "copy")
	copyDir(t, r.dir, expired.dir)
	revoked := *r
	revoked.dir = filepath.Join(t.TempDir(), "copy")
	copyDir(t, r.dir, revoked.dir)
	_, key, err := r.ring.Signer(trust.PurposeReleases, noon)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Rotate(expired.dir, filepath.Join(r.dir, trust.RootKeyFile), trust.PurposeReleases, noon, 0, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := trust.Revoke(revoked.dir, filepath.Join(r.dir, trust.RootKeyFile), key.ID, "stolen", noon); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		signed  string
		dir     string
		revoked bool
		want    string
	}{
		"no signature":           {signed: "", want: "compact form"},
		"the manifest alone":     {signed: `{"release":42}`, want: "compact form"},
		"an empty signature":     {signed: parts[0] + "." + parts[1] + ".", want: "does not match"},
		"alg none":               {signed: b64([]byte(`{"alg":"none","kid":"`+key.ID+`","typ":"xiezhi-release+jws"}`)) + "." + parts[1] + ".", want: `alg "none"`},
		"alg HS256":              {signed: b64([]byte(`{"alg":"HS256","kid":"`+key.ID+`","typ":"xiezhi-release+jws"}`)) + "." + parts[1] + "." + parts[2], want: `alg "HS256"`},
		"another payload":        {signed: parts[0] + "." + b64([]byte(`{}`)) + "." + parts[2], want: "does not match"},
		"a line break":           {signed: parts[0] + "." + parts[1] + "." + parts[2][:10] + "\n" + parts[2][10:], want: "compact form"},
		"an unknown kid":         {signed: other.seal(t, m), want: "unknown kid"},
		"a heartbeat's key":      {signed: as(trust.KindHeartbeat), want: "typ"},
		"a key of a purpose":     {signed: as(trust.Kind{Purpose: trust.PurposeLog, Type: trust.KindRelease.Type, Audience: trust.KindRelease.Audience}), want: "is for log, not for releases"},
		"for another audience":   {signed: as(trust.Kind{Purpose: trust.PurposeReleases, Type: trust.KindRelease.Type, Audience: "xiezhi:executor"}), want: "aud"},
		"a key that signed late": {signed: signedAt(t, r, m, noon.Add(time.Hour)), dir: expired.dir, want: "outside the time"},
		"a key revoked":          {signed: signed, dir: revoked.dir, revoked: true, want: "stolen"},
	} {
		set := r.ring.Set()
		if row.dir != "" {
			ring, err := trust.OpenRing(row.dir, noon)
			if err != nil {
				t.Fatal(err)
			}
			set = ring.Set()
		}
		data := pack(t, entry{name: manifestEntry, data: row.signed}, entry{name: "a.rego", data: "a"}, entry{name: "b/c.rego", data: "changed"}, entry{name: "new.rego"})
		_, err := Read(bytes.NewReader(data), set, noon, nil)
		if !errors.Is(err, trust.ErrUnsigned) || errors.Is(err, trust.ErrRevoked) != row.revoked || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), manifestEntry) {
			t.Errorf("%s: %v; want it refused with %q", name, err, row.want)
		}
	}
	var unsigned bytes.Buffer
	if err := WriteUnsigned(&unsigned, m, r.new); err != nil {
		t.Fatal(err)
	}
	if _, err := r.read(unsigned.Bytes(), nil); !errors.Is(err, trust.ErrUnsigned) {
		t.Errorf("an unsigned build: %v", err)
	}
	if seen, err := Inspect(&unsigned); err != nil || seen.KeyID != "" || seen.Content.Digest() != r.new.Digest() {
		t.Errorf("an unsigned build looks like %+v, %v", seen, err)
	}
}

// signedAt signs with the ring as it was, at another time.
func signedAt(t *testing.T, r *rig, m Manifest, at time.Time) string {
	t.Helper()
	signed, err := Seal(func(kind trust.Kind, body any) (string, error) { return r.ring.Sign(kind, body, at) }, m)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	pems, err := filepath.Glob(filepath.Join(to, "private", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(pems, filepath.Join(to, trust.RootKeyFile)) {
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeltasThatDoNotFitAreRefused(t *testing.T) {
	r := newRig(t)
	m := entry{name: manifestEntry, data: r.seal(t, manifest(r.new))}
	bc, n := entry{name: "b/c.rego", data: "changed"}, entry{name: "new.rego"}
	delta := func(text string) []byte { return pack(t, m, entry{name: deltaEntry, data: text}, bc, n) }
	base := `{"base":"` + r.old.Digest().String() + `","removed":`
	if _, err := r.read(delta(base+`["gone.rego"]}`), r.old); err != nil {
		t.Fatalf("the right one: %v", err)
	}
	for name, row := range map[string]struct {
		data []byte
		want string
	}{
		"it removes what is not there":   {delta(base + `["absent.rego","gone.rego"]}`), "no such file"},
		"it removes one path twice":      {delta(base + `["gone.rego","gone.rego"]}`), "each once"},
		"it removes in another order":    {delta(base + `["gone.rego","a.rego"]}`), "each once"},
		"it removes another folder's":    {delta(base + `["../gone.rego"]}`), "clean relative path"},
		"it removes what it changes":     {delta(base + `["b/c.rego","gone.rego"]}`), "changed and removed"},
		"it removes too little":          {delta(base + `[]}`), "digest"},
		"it removes too much":            {delta(base + `["a.rego","gone.rego"]}`), "digest"},
		"it removes nothing said":        {delta(base + `null}`), "removed"},
		"it has a member more":           {delta(base + `["gone.rego"],"x":1}`), "spelled"},
		"it has a member twice":          {delta(base + `[],"removed":["gone.rego"]}`), "spelled"},
		"it has other letters":           {delta(strings.Replace(base, "base", "Base", 1) + `["gone.rego"]}`), "spelled"},
		"it has text behind":             {delta(base + `["gone.rego"]} {}`), "invalid character"},
		"it has a digest of another sum": {delta(`{"base":"md5:00","removed":[]}`), "digest"},
		"it is given twice":              {pack(t, m, entry{name: deltaEntry, data: base + `[]}`}, entry{name: deltaEntry, data: base + `[]}`}, bc, n), "second entry"},
	} {
		if _, err := r.read(row.data, r.old); err == nil || !strings.Contains(err.Error(), row.want) || errors.Is(err, ErrBase) {
			t.Errorf("%s: %v; want it refused with %q", name, err, row.want)
		}
	}
	for name, at := range map[string]*Content{"no base": nil, "another base": r.new} {
		if _, err := r.read(r.delta(t, r.old, r.new), at); !errors.Is(err, ErrBase) {
			t.Errorf("%s: %v, want ErrBase", name, err)
		}
	}
}

// endless is a gzip of blanks that never ends, behind what comes first.
func endless(t *testing.T, first []byte, size int64) io.Reader {
	t.Helper()
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w := gzip.NewWriter(pw)
		_, err := w.Write(first)
		blanks := make([]byte, 1<<20)
		for n := int64(0); err == nil && n < size; n += int64(len(blanks)) {
			_, err = w.Write(blanks)
		}
		_ = pw.CloseWithError(errors.Join(err, w.Close())) // the reader is gone by now
	}()
	t.Cleanup(func() {
		_ = pr.Close()
		<-done
	})
	return pr
}

func TestABombIsRefusedBeforeItUnpacks(t *testing.T) {
	r := newRig(t)
	header := func(e entry, size int64) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h := entryHeader(e.name, size)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.data != "" {
			if _, err := w.Write([]byte(e.data)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil && size == int64(len(e.data)) {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	signed := r.seal(t, manifest(r.new))
	first := header(entry{name: manifestEntry, data: signed}, int64(len(signed)))
	for name, row := range map[string]struct {
		data []byte
		want string
	}{
		"a manifest":              {header(entry{name: manifestEntry}, 1<<32), "at most"},
		"a delta":                 {append(bytes.Clone(first), header(entry{name: deltaEntry}, 1<<32)...), "at most"},
		"a file":                  {append(bytes.Clone(first), header(entry{name: "a.rego"}, 1<<32)...), "signed for"},
		"a file within the limit": {append(bytes.Clone(first), header(entry{name: "a.rego"}, 9)...), "signed for"},
	} {
		counted := &counter{r: endless(t, row.data, 1<<40)}
		if _, err := Read(counted, r.ring.Set(), noon, nil); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v; want it refused with %q", name, err, row.want)
		}
		if counted.n > 64<<10 {
			t.Errorf("%s: read %d bytes of it", name, counted.n)
		}
	}
	// Blanks after the end of the tar are not read either.
	counted := &counter{r: endless(t, gunzip(t, r.snapshot(t, r.new)), 1<<40)}
	if _, err := Read(counted, r.ring.Set(), noon, nil); err == nil || counted.n > 64<<10 {
		t.Errorf("blanks behind: %v after %d bytes", err, counted.n)
	}
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestNumbersNeverFall(t *testing.T) {
	r := newRig(t)
	at := func(release uint64, c *Content) *Sealed {
		return &Sealed{Manifest: ManifestFor(c, release, 0, []string{"acme"}, noon)}
	}
	for name, row := range map[string]struct {
		active, next *Sealed
		lower        bool
	}{
		"the first":              {nil, at(1, r.old), false},
		"the next":               {at(41, r.old), at(42, r.new), false},
		"a later one":            {at(41, r.old), at(50, r.old), false},
		"the same, signed anew":  {at(42, r.new), at(42, r.new), false},
		"the same, other files":  {at(42, r.new), at(42, r.old), true},
		"a lower one":            {at(42, r.new), at(41, r.old), true},
		"a lower one, same file": {at(42, r.new), at(41, r.new), true},
	} {
		if err := CheckNext(row.active, row.next); errors.Is(err, ErrLower) != row.lower {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatNoReaderWouldTakeIsNotSealed(t *testing.T) {
	r := newRig(t)
	for name, m := range map[string]Manifest{
		"no number":   ManifestFor(r.new, 0, 0, []string{"acme"}, noon),
		"no audience": ManifestFor(r.new, 1, 0, nil, noon),
	} {
		if signed, err := Seal(r.sign, m); err == nil {
			t.Errorf("%s: %s", name, signed)
		}
	}
}

// fixedKeys are the same in every process: a fuzzer has several.
func fixedKeys(f *testing.F) (*trust.Set, func(Manifest) string) {
	rootKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
	public, rootPublic := key.Public().(ed25519.PublicKey), rootKey.Public().(ed25519.PublicKey)
	sign := func(key ed25519.PrivateKey, kind trust.Kind, body any) string {
		signed, err := trust.Sign(key, "test", kind, body, noon)
		if err != nil {
			f.Fatal(err)
		}
		return signed
	}
	keys := []trust.Key{{ID: trust.KeyID(public), Purpose: trust.PurposeReleases, Algorithm: trust.EdDSA, Public: public, SignFrom: noon}}
	root := trust.Root{Installation: "test", Keys: []trust.RootKey{{ID: trust.KeyID(rootPublic), Public: rootPublic}}}
	set, err := root.Open(sign(rootKey, trust.KindKeys, trust.SetBody(1, keys)), noon)
	if err != nil {
		f.Fatal(err)
	}
	return set, func(m Manifest) string { return sign(key, trust.KindRelease, m) }
}

// The fuzzer changes the tar: past the sum of a gzip it would not come.
func FuzzRead(f *testing.F) {
	r := newRig(f)
	set, seal := fixedKeys(f)
	var snapshot, delta bytes.Buffer
	if err := errors.Join(WriteSnapshot(&snapshot, seal(manifest(r.new)), r.new), WriteDelta(&delta, seal(manifest(r.new)), r.old, r.new)); err != nil {
		f.Fatal(err)
	}
	for _, bundle := range []*bytes.Buffer{&snapshot, &delta} {
		data := gunzip(f, bundle.Bytes())
		if got, err := Read(bytes.NewReader(stored(data)), set, noon, r.old); err != nil || got.Content.Digest() != r.new.Digest() {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = stored(data)
		got, err := Read(bytes.NewReader(data), set, noon, r.old)
		if err == nil && got.Content.Digest() != r.new.Digest() {
			t.Fatalf("accepted %s, which was never signed", got.Content.Digest())
		}
		seen, err := Inspect(bytes.NewReader(data))
		if err == nil && !seen.Delta && seen.Content.Digest() != seen.Manifest.Digest {
			t.Fatal("inspected content that is not the manifest's")
		}
	})
}

func BenchmarkRead(b *testing.B) {
	r := newRig(b)
	var files []File
	for i := range 100 {
		files = append(files, File{fmt.Sprintf("platform/p%03d.rego", i), bytes.Repeat([]byte("allow if input.a == 1\n"), 25)})
	}
	base := contentOf(b, files...)
	files[50].Data = []byte("changed")
	next := contentOf(b, files...)
	for name, row := range map[string]struct {
		data []byte
		base *Content
	}{"snapshot": {r.snapshot(b, next), nil}, "delta": {r.delta(b, base, next), base}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(manifest(next).Bytes)
			for b.Loop() {
				if _, err := r.read(row.data, row.base); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
