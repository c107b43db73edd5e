package cheq

import (
	"fmt"
	"path"
	"strings"

	"github.com/xiezhi-project/xiezhi/bundles"
)

// CheckTemplates reads the templates of one release and holds them to each
// other: the one that breaks the glass is there, and is for emergencies.
func CheckTemplates(files []bundles.File) (faults []error) {
	read := map[string]*Template{} // nil where it could not be read
	for _, f := range files {
		t, err := ParseTemplate(f.Path, f.Data)
		if err != nil {
			faults = append(faults, err)
		}
		read[strings.TrimSuffix(path.Base(f.Path), path.Ext(f.Path))] = t
	}
	for _, f := range files {
		t := read[strings.TrimSuffix(path.Base(f.Path), path.Ext(f.Path))]
		if t == nil || t.BreakGlass == "" {
			continue
		}
		if other, ok := read[t.BreakGlass]; !ok || other != nil && other.Kind != BreakGlass {
			detail := fmt.Sprintf("break_glass: there is no approval template %q of the kind %s", t.BreakGlass, BreakGlass)
			faults = append(faults, &TemplateError{f.Path, lineOf(f.Data, detail), detail})
		}
	}
	return faults
}
