package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

func newBundle() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "bundle",
		Short: "Build, sign, verify and look into bundles, without a server",
		Long: `A bundle is one release for one audience in one file: a manifest, signed with the
installation's key for releases, and the policies.`,
		Example: "  xiezhi bundle build ./policies --keys ./keys --release 42 -o r42.bundle\n  xiezhi bundle verify r42.bundle --trust trust.json --keys-set keys.jws",
	})
	cmd.AddCommand(newBundleBuild(), newBundleSign(), newBundleVerify(), newBundleInspect(), newBundleDiff())
	return cmd
}

// described is a bundle for people and scripts.
type described struct {
	Verified bool             `json:"verified"`
	KeyID    string           `json:"kid,omitempty"` // of the signature, or claimed by it
	Manifest bundles.Manifest `json:"manifest"`
	Base     *bundles.Digest  `json:"base,omitempty"` // of a delta
	Removed  []string         `json:"removed,omitempty"`
	Files    []describedFile  `json:"files"`
}

type describedFile struct {
	Path  string `json:"path"`
	Bytes int    `json:"bytes"`
}

func describeFiles(files []bundles.File) []describedFile {
	out := make([]describedFile, len(files))
	for i, f := range files {
		out[i] = describedFile{f.Path, len(f.Data)}
	}
	return out
}

func describeVerified(b *bundles.Bundle) *described {
	return &described{Verified: true, KeyID: b.KeyID, Manifest: b.Manifest, Files: describeFiles(b.Content.Files())}
}

// printBundle prints what a bundle is, and first whether anybody vouches for it.
func printBundle(cmd *cobra.Command, d *described, files bool) error {
	if wantsJSON(cmd) {
		return printJSON(cmd, d)
	}
	p := newPrinter(cmd)
	switch {
	case d.Verified:
		p.line("verified: signed by key %s", d.KeyID)
	case d.KeyID == "":
		p.line("NOT SIGNED: an unsigned build, which no PEP takes")
	default:
		p.line("NOT VERIFIED: it says that key %s signed it, and nobody has checked", d.KeyID)
	}
	m := &d.Manifest
	p.line("release  %d, made %s", m.Release, m.Created.Local().Format(time.DateTime))
	if m.Restores > 0 {
		p.line("restores %d", m.Restores)
	}
	p.line("tenants  %s", bundles.AudienceName(m.Tenants))
	p.line("digest   %s (%s, %d bytes)", m.Digest.String(), plural(m.Files, "file"), m.Bytes)
	if d.Base != nil {
		p.line("delta on %s: %s changed, %d removed", d.Base.String(), plural(len(d.Files), "file"), len(d.Removed))
	}
	if files {
		for _, f := range d.Files {
			p.line("  %8d  %s", f.Bytes, f.Path)
		}
		for _, path := range d.Removed {
			p.line("   removed  %s", path)
		}
	}
	return p.err
}

// verifierFlags say whose signature counts.
type verifierFlags struct{ trust, set string }

func (v *verifierFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&v.trust, "trust", "", "trust root: `file` trust.json of the installation")
	cmd.Flags().StringVar(&v.set, "keys-set", "", "signed key set: `file` keys.jws of the installation")
}

// open verifies the key set; it is nil where neither flag was given.
func (v *verifierFlags) open(now time.Time) (*trust.Set, error) {
	if v.trust == "" && v.set == "" {
		return nil, nil
	}
	if v.trust == "" || v.set == "" {
		return nil, errors.New("give --trust and --keys-set together: the one vouches for the other")
	}
	text, err := readTrustFile(v.trust)
	if err != nil {
		return nil, err
	}
	root, err := trust.ParseRoot(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.trust, err)
	}
	signed, err := readTrustFile(v.set)
	if err != nil {
		return nil, err
	}
	set, err := root.Open(string(signed), now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.set, err)
	}
	return set, nil
}

func readTrustFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	data, err := io.ReadAll(io.LimitReader(f, trust.MaxSigned+1))
	if err == nil && len(data) > trust.MaxSigned {
		err = fmt.Errorf("%s: more than %d bytes", file, trust.MaxSigned)
	}
	return data, err
}

// inspectFile reads a bundle without asking who signed it.
func inspectFile(file string) (*bundles.Unverified, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	seen, err := bundles.Inspect(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return seen, nil
}

// readBundleFile reads a bundle as a PEP does.
func readBundleFile(file string, set *trust.Set, now time.Time, base *bundles.Content) (*bundles.Bundle, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	bundle, err := bundles.Read(f, set, now, base)
	if errors.Is(err, bundles.ErrBase) {
		err = fmt.Errorf("%w: name the bundle of its base with --base", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return bundle, nil
}

// writeBundle writes a file that is not there yet, whole or not at all.
func writeBundle(file string, write func(io.Writer) error) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already, and bundles are not written over: remove it or name another with -o", file)
	}
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", file, err), os.Remove(file))
	}
	return nil
}

func newBundleVerify() *cobra.Command {
	var whose verifierFlags
	var base string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a bundle as a PEP does: signature, key, files, limits",
		Long: `Verify reads a bundle and holds it against the trust root, as a PEP would that has no
release yet. It exits 1 and says what is wrong where a PEP would refuse it. A delta
needs the bundle that it starts from.`,
		Example: "  xiezhi bundle verify r42.bundle --trust trust.json --keys-set keys.jws",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			set, err := whose.open(now)
			if err != nil {
				return err
			}
			var from *bundles.Content
			if base != "" {
				bundle, err := readBundleFile(base, set, now, nil)
				if err != nil {
					return err
				}
				from = bundle.Content
			}
			bundle, err := readBundleFile(args[0], set, now, from)
			if err != nil {
				return err
			}
			return printBundle(cmd, describeVerified(bundle), false)
		},
	}
	whose.register(cmd)
	cmd.Flags().StringVar(&base, "base", "", "`bundle` that a delta starts from")
	_ = cmd.MarkFlagRequired("trust") // both were defined above
	_ = cmd.MarkFlagRequired("keys-set")
	return cmd
}

func newBundleInspect() *cobra.Command {
	var whose verifierFlags
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show the manifest, the key and the files of a bundle",
		Long: `Inspect shows what a bundle says of itself. Without --trust and --keys-set nobody has
checked who signed it, and the first line says so.`,
		Example: "  xiezhi bundle inspect r42.bundle\n  xiezhi bundle inspect r42.bundle --trust trust.json --keys-set keys.jws --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			now := time.Now()
			set, err := whose.open(now)
			if err != nil {
				return err
			}
			seen, err := inspectFile(args[0])
			switch {
			case err != nil:
				return err
			case set != nil && seen.Delta:
				return errors.New("a delta is verified on its base: see xiezhi bundle verify --base")
			case set != nil:
				// The file is read again: what is said to be verified is what was.
				bundle, err := readBundleFile(args[0], set, now, nil)
				if err != nil {
					return err
				}
				return printBundle(cmd, describeVerified(bundle), true)
			}
			d := &described{KeyID: seen.KeyID, Manifest: seen.Manifest, Removed: seen.Removed, Files: describeFiles(seen.Files)}
			if seen.Delta {
				d.Base = &seen.Base
			}
			return printBundle(cmd, d, true)
		},
	}
	whose.register(cmd)
	return cmd
}

func newBundleDiff() *cobra.Command {
	var names bool
	cmd := &cobra.Command{
		Use:     "diff FROM TO",
		Short:   "Show what changes between two bundles; nobody's signature is checked",
		Example: "  xiezhi bundle diff r41.bundle r42.bundle --names",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var sides [2]*bundles.Unverified
			for i, file := range args {
				seen, err := inspectFile(file)
				if err != nil {
					return err
				}
				if seen.Delta {
					return fmt.Errorf("%s is a delta, which shows its changes itself: see xiezhi bundle inspect", file)
				}
				sides[i] = seen
			}
			return printBundleDiff(cmd, sides[0], sides[1], names)
		},
	}
	cmd.Flags().BoolVar(&names, "names", false, "list the files only")
	return cmd
}

func printBundleDiff(cmd *cobra.Command, from, to *bundles.Unverified, names bool) error {
	changes := []fileChange{}
	for _, c := range from.Content.Diff(to.Content) {
		change := fileChange{Path: c.Path, Change: "changed"}
		if before, err := from.Content.File(c.Path); err == nil {
			text := string(before)
			change.Before = &text
		} else {
			change.Change = "added"
		}
		if c.Removed {
			change.Change = "removed"
		} else {
			text := string(c.Data)
			change.After = &text
		}
		changes = append(changes, change)
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, map[string]any{"from": from.Manifest, "to": to.Manifest, "verified": false, "files": changes})
	}
	p := newPrinter(cmd)
	p.line("release %d for %s → release %d for %s (signatures not checked)", from.Manifest.Release, bundles.AudienceName(from.Manifest.Tenants), to.Manifest.Release, bundles.AudienceName(to.Manifest.Tenants))
	for _, f := range changes {
		p.line("%s %s", f.Change, f.Path)
		if !names {
			for _, l := range lineDiff(text(f.Before), text(f.After)) {
				p.line("  %s", l)
			}
		}
	}
	if len(changes) == 0 {
		p.line("the same files")
	}
	return p.err
}
