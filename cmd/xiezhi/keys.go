package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/bundles/trust"
)

func newKeys() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "keys",
		Short: "Make, list, rotate and revoke the keys of an installation",
		Long: `A folder of keys holds trust.json (what PEPs are configured with), keys.jws (the
public keys, signed by the root), private/ (what this installation signs with: one
key a purpose) and root.pem (the root's private half, which rotating and revoking
need and a server does not: keep it elsewhere). docs/keys.md says what each signs and
what to do when one leaks.`,
		Example: "  xiezhi keys new --keys ./keys --installation prod\n  xiezhi keys list --keys ./keys\n  xiezhi keys rotate releases --keys ./keys --root-key /media/root.pem",
	})
	cmd.AddCommand(newKeysNew(), newKeysList(), newKeysRotate(), newKeysRevoke(), newKeysRoot())
	return cmd
}

// keysFolder registers the flag of a folder of keys.
func keysFolder(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "keys", "", "`folder` of keys")
	_ = cmd.MarkFlagRequired("keys") // it was defined above
}

// rootKeyFlag registers the flag of the root's private half.
func rootKeyFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "root-key", "", "`file` of the root's private half (default root.pem in the folder of keys)")
}

func rootKeyPath(dir, file string) string {
	if file == "" {
		return filepath.Join(dir, trust.RootKeyFile)
	}
	return file
}

// listedKey is one key for people and scripts.
type listedKey struct {
	trust.Key
	State string `json:"state"`
	Here  bool   `json:"here"` // its private half is, and may still sign
	PEM   string `json:"pem"`  // the public half, as a stock OPA is configured with it
}

// listedKeys is the result of `keys list`.
type listedKeys struct {
	Installation string          `json:"installation"`
	Version      uint64          `json:"version"`
	MinVersion   uint64          `json:"min_version,omitempty"`
	Roots        []trust.RootKey `json:"roots"`
	Keys         []listedKey     `json:"keys"`
}

func listKeys(ring *trust.Ring, now time.Time) (listedKeys, error) {
	root, set := ring.Root(), ring.Set()
	listed := listedKeys{Installation: root.Installation, Version: set.Version(), MinVersion: root.MinVersion, Roots: root.Keys, Keys: []listedKey{}}
	for _, k := range set.Keys() {
		public, err := publicPEM(k)
		if err != nil {
			return listedKeys{}, fmt.Errorf("key %s: %w", k.ID, err)
		}
		listed.Keys = append(listed.Keys, listedKey{Key: k, State: keyState(&k, now), Here: ring.Holds(k.ID), PEM: public})
	}
	return listed, nil
}

// publicPEM writes the public half of a key.
func publicPEM(k trust.Key) (string, error) {
	var public crypto.PublicKey = ed25519.PublicKey(k.Public)
	if k.Algorithm != trust.EdDSA {
		var err error
		if public, err = x509.ParsePKIXPublicKey(k.Public); err != nil {
			return "", err
		}
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}

// keyState is what a key is good for at now.
func keyState(k *trust.Key, now time.Time) string {
	local := func(t time.Time) string { return t.Local().Format(time.DateTime) }
	switch {
	case !k.RevokedAt.IsZero():
		return "revoked " + local(k.RevokedAt) + ": " + k.RevokedReason
	case now.Before(k.SignFrom):
		return "signs from " + local(k.SignFrom)
	case k.Signs(now) && k.SignUntil.IsZero():
		return "signs"
	case k.Signs(now):
		return "signs until " + local(k.SignUntil)
	case k.VerifyUntil.IsZero():
		return "verifies"
	case now.Before(k.VerifyUntil):
		return "verifies until " + local(k.VerifyUntil)
	default:
		return "ended " + local(k.VerifyUntil)
	}
}

func newKeysNew() *cobra.Command {
	var dir, installation string
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make a root and one key for each purpose, in an empty folder",
		Long: `New makes a folder of keys. It writes over nothing. Give trust.json to every PEP, and
move root.pem to where only those who rotate and revoke can reach it.`,
		Example: "  xiezhi keys new --keys ./keys --installation prod",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			ring, err := trust.NewRing(dir, installation, now)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printKeys(cmd, ring, now)
			}
			p := newPrinter(cmd)
			p.line("%s for the installation %s in %s", plural(len(ring.Set().Keys()), "key"), installation, dir)
			p.line("give to every PEP:   %s", filepath.Join(dir, trust.RootFile))
			p.line("take off the server: %s (needed to rotate and revoke only)", filepath.Join(dir, trust.RootKeyFile))
			return p.err
		},
	}
	keysFolder(cmd, &dir)
	cmd.Flags().StringVar(&installation, "installation", "", "`name` of the installation: the issuer of everything it signs, which never changes")
	_ = cmd.MarkFlagRequired("installation") // it was defined above
	return cmd
}

func newKeysList() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the keys, what each is for, and until when",
		Example: "  xiezhi keys list --keys ./keys",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			ring, err := trust.OpenRing(dir, now)
			if err != nil {
				return err
			}
			return printKeys(cmd, ring, now)
		},
	}
	keysFolder(cmd, &dir)
	return cmd
}

func printKeys(cmd *cobra.Command, ring *trust.Ring, now time.Time) error {
	listed, err := listKeys(ring, now)
	if err != nil {
		return err
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, listed)
	}
	p := newPrinter(cmd)
	p.line("installation %s, key set %d", listed.Installation, listed.Version)
	for _, r := range listed.Roots {
		p.line("root %s", r.ID)
	}
	rows := [][]string{{"KEY", "PURPOSE", "ALGORITHM", "PRIVATE HALF", "STATE"}}
	for _, k := range listed.Keys {
		here := "elsewhere"
		if k.Here {
			here = "here"
		}
		rows = append(rows, []string{k.ID, string(k.Purpose), k.Algorithm, here, k.State})
	}
	p.table("", rows)
	return p.err
}

// rotation is when a new key takes over.
type rotation struct {
	dir, rootKey string
	in, overlap  time.Duration
}

func newKeysRotate() *cobra.Command {
	var r rotation
	cmd := &cobra.Command{
		Use:   "rotate PURPOSE",
		Short: "Make a new key of a purpose that takes over soon",
		Long: fmt.Sprintf(`Rotate makes a new key, and signs a key set in which it takes over after --in. Until
then every node has to be given the new keys.jws and the new file in private/, or
what it signs with the old key is refused. Purposes: %s.

What the old key signed stays good for --overlap after that: by default 30 days for
log, 24 h for permits and tokens, and without end for releases and opa-bundles.`, purposes()),
		Example: "  xiezhi keys rotate log --keys ./keys --root-key /media/root.pem --in 10m",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.run(cmd, trust.Purpose(args[0]), time.Now())
		},
	}
	keysFolder(cmd, &r.dir)
	rootKeyFlag(cmd, &r.rootKey)
	cmd.Flags().DurationVar(&r.in, "in", 5*time.Minute, "how long the old key goes on signing")
	cmd.Flags().DurationVar(&r.overlap, "overlap", 0, "how long what the old key signed is good after that (0: by purpose)")
	return cmd
}

func (r *rotation) run(cmd *cobra.Command, purpose trust.Purpose, now time.Time) error {
	overlap := r.overlap
	if overlap == 0 {
		overlap = trust.Overlap(purpose)
	}
	made, err := trust.Rotate(r.dir, rootKeyPath(r.dir, r.rootKey), purpose, now.Add(r.in), overlap, now)
	if err != nil {
		return err
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, made)
	}
	p := newPrinter(cmd)
	p.line("key %s signs for %s from %s on", made.ID, string(purpose), made.SignFrom.Local().Format(time.DateTime))
	p.line("give every node, before then: private/%s.pem first, then %s", made.ID, trust.SetFile)
	return p.err
}

func purposes() string {
	text := ""
	for i, purpose := range trust.Purposes() {
		if i > 0 {
			text += ", "
		}
		text += string(purpose)
	}
	return text
}

func newKeysRevoke() *cobra.Command {
	var dir, rootKey, reason string
	cmd := &cobra.Command{
		Use:   "revoke KEY",
		Short: "End a key at once, whatever it signed and when",
		Long: `Revoke signs a key set in which nothing that the key signed counts any more, and makes
a new key where no other of its purpose signs. PEPs that are connected refuse the old
key as soon as a node has the new set; the others when they connect, or when they are
given the new trust.json, whose min_version refuses sets from before.`,
		Example: "  xiezhi keys revoke p2Qk… --keys ./keys --root-key /media/root.pem --reason 'laptop stolen'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if reason == "" {
				return errors.New("--reason is empty: it is what verifiers say when they refuse")
			}
			made, err := trust.Revoke(dir, rootKeyPath(dir, rootKey), args[0], reason, time.Now())
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, map[string]any{"revoked": args[0], "made": made})
			}
			p := newPrinter(cmd)
			p.line("key %s is revoked", args[0])
			if made != nil {
				p.line("key %s signs for %s from now on", made.ID, string(made.Purpose))
				p.line("give every node: private/%s.pem first, then %s, then %s", made.ID, trust.SetFile, trust.RootFile)
			} else {
				p.line("give every node: %s, then %s", trust.SetFile, trust.RootFile)
			}
			return p.err
		},
	}
	keysFolder(cmd, &dir)
	rootKeyFlag(cmd, &rootKey)
	cmd.Flags().StringVar(&reason, "reason", "", "why, as verifiers will say it")
	_ = cmd.MarkFlagRequired("reason") // it was defined above
	return cmd
}
