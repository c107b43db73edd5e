package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pdp/cedareval"
	"github.com/xiezhi-project/xiezhi/pdp/regoeval"
	"github.com/xiezhi-project/xiezhi/policies"
)

// ReadFolder reads a policy folder. Go files at its top are left out: they are
// how a repository of policies makes itself importable.
func ReadFolder(dir string) (*bundles.Content, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: there is no such folder", dir)
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s: want a folder, this is a file", dir)
	}
	return read(os.DirFS(dir))
}

// Shipped returns the policies that come with the program.
func Shipped() (*bundles.Content, error) { return read(policies.FS()) }

func read(fsys fs.FS) (*bundles.Content, error) {
	return bundles.ReadFS(fsys, func(p string) bool { return path.Ext(p) != ".go" || strings.Contains(p, "/") })
}

// Formats reports whether there is a formatter for files of this name.
func Formats(name string) bool {
	switch path.Ext(name) {
	case ".rego", ".cedar", ".cedarschema":
		return true
	default:
		return false
	}
}

// Format returns a file as its language's formatter writes it. Files without
// one come back as they are. One that does not parse is [pdp.Faults].
func Format(name string, data []byte) ([]byte, error) {
	switch path.Ext(name) {
	case ".rego":
		return regoeval.Format(name, data)
	case ".cedar", ".cedarschema":
		return cedareval.Format(name, data)
	default:
		return data, nil
	}
}
