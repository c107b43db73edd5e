package approvals

import (
	"crypto/sha256"
	"sync"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// templates are the approval templates of one release at a time, each read
// once. The zero value is ready, and safe for concurrent use.
type templates struct {
	mu      sync.Mutex
	release *pdp.Release
	read    map[string]template
}

type template struct {
	*cheq.Template // nil where there is none that could be read
	digest         string
}

// of returns a release's template and its digest, or nil.
func (t *templates) of(release *pdp.Release, name string) (*cheq.Template, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.release != release {
		t.release, t.read = release, map[string]template{}
	}
	known, ok := t.read[name]
	if !ok {
		known = readTemplate(release, name)
		t.read[name] = known
	}
	return known.Template, known.digest
}

func readTemplate(release *pdp.Release, name string) template {
	for _, extension := range []string{".yaml", ".yml"} {
		path := "approvals/" + name + extension
		data, err := release.Content.File(path)
		if err != nil {
			continue
		}
		parsed, err := cheq.ParseTemplate(path, data)
		if err != nil {
			break // a release of before the gate read templates: nobody can be asked
		}
		return template{parsed, bundles.Digest(sha256.Sum256(data)).String()}
	}
	return template{}
}
