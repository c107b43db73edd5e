package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pdp"
)

func newPolicy() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "policy",
		Short:   "Write, check, test and try policies, without a server; push",
		Example: "  xiezhi policy new tenants/acme/disks\n  xiezhi policy test",
	})
	cmd.AddCommand(
		newPolicyNew(),
		newPolicyCheck(),
		newPolicyTest(),
		newPolicyEval(),
		newPolicyFmt(),
		newPolicyPush(),
	)
	return cmd
}

// policyFolder is where a command takes policies from.
type policyFolder struct {
	dir string // empty: the policies that come with the program
}

// defaultFolder is taken where it exists and no other is named.
const defaultFolder = "policies"

func (f *policyFolder) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "policies", "", "policy `folder` (default ./policies where it exists, else the policies shipped with xiezhi)")
}

// find settles which folder is meant.
func (f *policyFolder) find() error {
	if f.dir != "" {
		return nil
	}
	switch info, err := os.Stat(defaultFolder); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("./%s is not a folder: name one with --policies", defaultFolder)
	}
	f.dir = defaultFolder
	return nil
}

// compile reads and compiles the folder. What is wrong is [pdp.Faults], whose
// files are written so that they can be opened from here.
func (f *policyFolder) compile(ctx context.Context, e *engine.Engine) (*pdp.Release, error) {
	if err := f.find(); err != nil {
		return nil, err
	}
	content, err := f.read()
	if err != nil {
		return nil, err
	}
	return e.Candidate(ctx, content)
}

func (f *policyFolder) read() (*bundles.Content, error) {
	if f.dir == "" {
		return engine.Shipped()
	}
	return engine.ReadFolder(f.dir)
}

// String names the folder for people.
func (f *policyFolder) String() string {
	if f.dir == "" {
		return "the shipped policies"
	}
	return f.dir
}

// place is a file of the folder as it can be opened from here.
func (f *policyFolder) place(file string) string {
	if f.dir == "" || file == "" {
		return file
	}
	return filepath.Join(f.dir, filepath.FromSlash(file))
}

// located returns faults with files that can be opened from here; other errors
// as they are.
func (f *policyFolder) located(err error) error {
	var faults pdp.Faults
	if !errors.As(err, &faults) {
		return err
	}
	located := make(pdp.Faults, len(faults))
	for i, fault := range faults {
		fault.File = f.place(fault.File)
		located[i] = fault
	}
	return fmt.Errorf("%s does not compile (%s):\n%w", f, plural(len(faults), "fault"), located)
}

// inside turns what a person names, a path from here or a place of the
// repository, into a place of the repository.
func (f *policyFolder) inside(names []string) []string {
	inside := make([]string, len(names))
	for i, name := range names {
		place := filepath.ToSlash(filepath.Clean(name))
		if rest, ok := strings.CutPrefix(place, filepath.ToSlash(filepath.Clean(f.dir))+"/"); ok && f.dir != "" {
			place = rest
		} else if place == filepath.ToSlash(filepath.Clean(f.dir)) {
			place = "."
		}
		inside[i] = place
	}
	return inside
}
