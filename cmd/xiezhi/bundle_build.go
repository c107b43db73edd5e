package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/bundles/trust"
	"github.com/xiezhi-project/xiezhi/cmd/internal/engine"
	"github.com/xiezhi-project/xiezhi/pap"
)

// building is what `bundle build` was told.
type building struct {
	keys, out         string
	tenants           []string
	release, restores uint64
	unsigned          bool
}

func newBundleBuild() *cobra.Command {
	var b building
	cmd := &cobra.Command{
		Use:   "build FOLDER",
		Short: "Compile and test a policy folder, and write it as a bundle",
		Long: `Build puts a policy folder through the gate that a release passes (it compiles, its
test cases hold), takes what the audience gets of it, and writes it as a bundle.

With --unsigned it needs no keys: xiezhi bundle sign signs the file elsewhere. Both
print the digest, by which the two can be compared.`,
		Example: "  xiezhi bundle build ./policies --tenants acme --release 42 --keys ./keys -o acme-r42.bundle\n  xiezhi bundle build ./policies --release 42 --unsigned -o r42.unsigned",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return b.run(cmd, &policyFolder{dir: args[0]}, time.Now())
		},
	}
	cmd.Flags().StringSliceVar(&b.tenants, "tenants", []string{bundles.AllTenants}, "`tenants` it is for, with commas; '*' for all")
	cmd.Flags().Uint64Var(&b.release, "release", 1, "`number` of the release; a PEP takes none below the one it has")
	cmd.Flags().Uint64Var(&b.restores, "restores", 0, "`number` of the older release whose content this repeats")
	cmd.Flags().StringVar(&b.keys, "keys", "", "`folder` of keys to sign with")
	cmd.Flags().BoolVar(&b.unsigned, "unsigned", false, "leave it to xiezhi bundle sign")
	outputFlag(cmd, &b.out)
	cmd.MarkFlagsMutuallyExclusive("keys", "unsigned")
	cmd.MarkFlagsOneRequired("keys", "unsigned")
	return cmd
}

func outputFlag(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVarP(out, "output", "o", "", "`file` to write; it must not be there yet")
	_ = cmd.MarkFlagRequired("output") // it was defined above
}

func (b *building) run(cmd *cobra.Command, folder *policyFolder, now time.Time) error {
	content, err := folder.read()
	if err != nil {
		return err
	}
	if _, err := engine.New().Gate(cmd.Context(), content, nil); err != nil {
		return folder.located(err)
	}
	subset, err := pap.Subset(content, b.tenants)
	if err != nil {
		return err
	}
	manifest := bundles.ManifestFor(subset, b.release, b.restores, b.tenants, now.Truncate(time.Second))
	if b.unsigned {
		err = writeBundle(b.out, func(w io.Writer) error { return bundles.WriteUnsigned(w, manifest, subset) })
		if err != nil {
			return err
		}
		return printBundle(cmd, &described{Manifest: manifest, Files: describeFiles(subset.Files())}, false)
	}
	return sealTo(cmd, b.out, b.keys, manifest, subset, now)
}

// sealTo signs a manifest, writes the bundle, and prints it as it reads back.
func sealTo(cmd *cobra.Command, out, keys string, manifest bundles.Manifest, content *bundles.Content, now time.Time) error {
	ring, err := trust.OpenRing(keys, now)
	if err != nil {
		return err
	}
	signed, err := bundles.Seal(func(kind trust.Kind, body any) (string, error) { return ring.Sign(kind, body, now) }, manifest)
	if err != nil {
		return err
	}
	if err := writeBundle(out, func(w io.Writer) error { return bundles.WriteSnapshot(w, signed, content) }); err != nil {
		return err
	}
	bundle, err := readBundleFile(out, ring.Set(), now, nil)
	if err != nil {
		return err
	}
	return printBundle(cmd, describeVerified(bundle), false)
}

func newBundleSign() *cobra.Command {
	var keys, out, digest string
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign an unsigned build",
		Long: `Sign takes what xiezhi bundle build --unsigned wrote, checks that its files are what
its manifest says, and writes it signed. Who signs answers for the content: compare
it by --digest with what was built, or look at it with xiezhi bundle inspect and diff.`,
		Example: "  xiezhi bundle sign r42.unsigned --keys ./keys --digest sha256:… -o r42.bundle",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			build, err := inspectFile(args[0])
			switch {
			case err != nil:
				return err
			case build.Delta:
				return fmt.Errorf("%s is a delta: sign a snapshot", args[0])
			case build.KeyID != "":
				return fmt.Errorf("%s is signed already", args[0])
			case digest != "" && digest != build.Manifest.Digest.String():
				return fmt.Errorf("%s has the digest %s: not signed", args[0], build.Manifest.Digest)
			case keys == "":
				return errors.New("--keys is empty")
			}
			return sealTo(cmd, out, keys, build.Manifest, build.Content, time.Now())
		},
	}
	keysFolder(cmd, &keys)
	cmd.Flags().StringVar(&digest, "digest", "", "sign only what has this `digest`")
	outputFlag(cmd, &out)
	return cmd
}
