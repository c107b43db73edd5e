package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// release is what the server says of one.
type release struct {
	Number     uint64    `json:"number"`
	Digest     string    `json:"digest"`
	Restores   uint64    `json:"restores,omitempty"`
	Unreviewed bool      `json:"unreviewed,omitempty"`
	Author     string    `json:"author"`
	Note       string    `json:"note,omitempty"`
	Source     string    `json:"source,omitempty"`
	Commit     string    `json:"commit,omitempty"`
	CreatedAt  time.Time `json:"created_at"`
	Revision   string    `json:"revision,omitempty"`
	// Case is the case of a release that waits for people; it has nothing else.
	Case string `json:"case,omitempty"`
}

// waits prints where a release waits for people.
func (r *release) waits(cmd *cobra.Command) error {
	if wantsJSON(cmd) {
		return printJSON(cmd, map[string]string{"case": r.Case, "status": authz.ApprovalPending})
	}
	p := newPrinter(cmd)
	p.line("people must say yes first: case %s; it is published by itself then", r.Case)
	p.line("look at it: xiezhi cheq show %s", r.Case)
	return p.err
}

func newRelease() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "release",
		Short:   "List, publish, compare and restore releases of a server",
		Example: "  xiezhi release list\n  xiezhi release await 42\n  xiezhi release diff 41 42\n  xiezhi release restore 41",
	})
	cmd.AddCommand(newReleaseList(), newReleasePublish(), newReleaseAwait(), newReleaseRollout(), newReleaseDiff(), newReleaseRestore())
	return cmd
}

func newReleaseList() *cobra.Command {
	var at remoteFlags
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List releases, the newest first",
		Example: "  xiezhi release list --limit 5",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			releases, err := listAll[release](cmd.Context(), server, "/api/v1/releases", url.Values{}, limit)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, releases)
			}
			rows := [][]string{{"RELEASE", "PUBLISHED", "BY", "DIGEST", "NOTE"}}
			for _, r := range releases {
				note := r.Note
				if r.Unreviewed {
					note = strings.TrimSpace("unreviewed; " + note)
				}
				if r.Commit != "" {
					note = strings.TrimSpace("commit " + r.Commit[:min(12, len(r.Commit))] + "; " + note)
				}
				rows = append(rows, []string{strconv.FormatUint(r.Number, 10), r.CreatedAt.Local().Format(time.DateTime), r.Author, shortDigest(r.Digest), note})
			}
			p := newPrinter(cmd)
			p.table("", rows)
			return p.err
		},
	}
	at.register(cmd)
	cmd.Flags().IntVar(&limit, "limit", 20, "at most this many; 0 for all")
	return cmd
}

// shortDigest is enough of a digest to tell releases apart.
func shortDigest(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(12, len(hex))]
}

// fileChange is one file of a comparison.
type fileChange struct {
	Path   string  `json:"path"`
	Change string  `json:"change"`
	Before *string `json:"before,omitempty"`
	After  *string `json:"after,omitempty"`
}

func newReleaseDiff() *cobra.Command {
	var at remoteFlags
	var names bool
	cmd := &cobra.Command{
		Use:     "diff FROM TO",
		Short:   "Show what changed between two releases",
		Example: "  xiezhi release diff 41 42\n  xiezhi release diff 41 42 --names",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			var diff struct {
				From  uint64       `json:"from"`
				To    uint64       `json:"to"`
				Files []fileChange `json:"files"`
			}
			path := fmt.Sprintf("/api/v1/releases/%s/diff/%s", url.PathEscape(args[0]), url.PathEscape(args[1]))
			if err := server.get(cmd.Context(), path, nil, &diff); err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, diff)
			}
			p := newPrinter(cmd)
			for _, f := range diff.Files {
				p.line("%s %s", f.Change, f.Path)
				if !names {
					for _, l := range lineDiff(text(f.Before), text(f.After)) {
						p.line("  %s", l)
					}
				}
			}
			if len(diff.Files) == 0 {
				p.line("no difference that you may see")
			}
			return p.err
		},
	}
	at.register(cmd)
	cmd.Flags().BoolVar(&names, "names", false, "list the files only")
	return cmd
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// lineDiff lists removed and added lines around what both share at the
// beginning and the end; people read it, nothing applies it.
func lineDiff(before, after string) []string {
	a, b := splitLines(before), splitLines(after)
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	endA, endB := len(a), len(b)
	for endA > start && endB > start && a[endA-1] == b[endB-1] {
		endA, endB = endA-1, endB-1
	}
	out := []string{fmt.Sprintf("@@ line %d @@", start+1)}
	for _, l := range a[start:endA] {
		out = append(out, "- "+l)
	}
	for _, l := range b[start:endB] {
		out = append(out, "+ "+l)
	}
	return out
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

func newReleaseRestore() *cobra.Command {
	var at remoteFlags
	cmd := &cobra.Command{
		Use:   "restore RELEASE",
		Short: "Publish the content of an older release as the next one",
		Long: `Restore publishes a new release with the next number and the content of an older
one; numbers never fall. It passes the same gate as any other release. Grants that
ended because a rule changed stay ended.`,
		Example: "  xiezhi release restore 41",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			var made release
			if err := server.send(cmd.Context(), http.MethodPost, "/api/v1/releases/"+url.PathEscape(args[0])+"/restore", nil, &made); err != nil {
				return err
			}
			if made.Case != "" {
				return made.waits(cmd)
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, made)
			}
			p := newPrinter(cmd)
			p.line("release %s restores %s, revision %s", strconv.FormatUint(made.Number, 10), args[0], made.Revision)
			return p.err
		},
	}
	at.register(cmd)
	return cmd
}
