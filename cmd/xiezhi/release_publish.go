package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xiezhi-project/xiezhi/bundles"
)

func newReleasePublish() *cobra.Command {
	var (
		at     remoteFlags
		folder policyFolder
		note   string
		prune  bool
		only   string
	)
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Write what differs from the newest release as drafts, and publish them",
		Long: `Publish compares a policy folder with the newest release of a server, writes each file
that differs as a draft, and publishes those drafts as one release: it compiles and
its test cases pass, or nothing changes. Files that the folder lacks stay, unless
--prune is given. A tenant's author names the own part with --only.`,
		Example: "  xiezhi release publish --policies ./policies --note 'no GPUs'\n  xiezhi release publish --only tenants/acme/",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := at.open()
			if err != nil {
				return err
			}
			if err := folder.find(); err != nil {
				return err
			}
			if folder.dir == "" {
				return errors.New("no policy folder: name one with --policies")
			}
			content, err := folder.read()
			if err != nil {
				return err
			}
			made, changed, err := publish(cmd.Context(), server, content, only, prune, note)
			var status *statusError
			if errors.As(err, &status) && status.code == http.StatusUnprocessableEntity {
				cmd.PrintErrf("xiezhi: %s\n", printable(err.Error()))
				return exit(exitFaults)
			}
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return printJSON(cmd, map[string]any{"release": made, "changed": changed})
			}
			p := newPrinter(cmd)
			if len(changed) == 0 {
				p.line("nothing to publish: the newest release is the same")
				return p.err
			}
			for _, c := range changed {
				p.line("  %s", c)
			}
			p.line("release %s published, revision %s", strconv.FormatUint(made.Number, 10), made.Revision)
			return p.err
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&folder.dir, "policies", "", "policy `folder` (default ./policies)")
	cmd.Flags().StringVar(&note, "note", "", "what the release is for")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove files of the release that the folder lacks")
	cmd.Flags().StringVar(&only, "only", "", "publish only paths with this `prefix`")
	return cmd
}

// publish returns the release and the paths that changed.
func publish(ctx context.Context, server *remote, content *bundles.Content, only string, prune bool, note string) (release, []string, error) {
	there, err := newestFiles(ctx, server)
	if err != nil {
		return release{}, nil, err
	}
	changed := []string{}
	for _, f := range content.Files() {
		digest := bundles.Digest(sha256.Sum256(f.Data))
		known, ok := there[f.Path]
		delete(there, f.Path)
		if !strings.HasPrefix(f.Path, only) || ok && known == digest.String() {
			continue
		}
		if err := putDraft(ctx, server, f); err != nil {
			return release{}, nil, err
		}
		changed = append(changed, f.Path)
	}
	for path := range there {
		if !prune || !strings.HasPrefix(path, only) {
			continue
		}
		if err := removeDraft(ctx, server, path); err != nil {
			return release{}, nil, err
		}
		changed = append(changed, path)
	}
	if len(changed) == 0 {
		return release{}, changed, nil
	}
	var made release
	err = server.send(ctx, http.MethodPost, "/api/v1/releases", map[string]any{"drafts": changed, "note": note}, &made)
	return made, changed, err
}

// newestFiles returns the digests of the newest release's files by path.
func newestFiles(ctx context.Context, server *remote) (map[string]string, error) {
	newest, err := listAll[release](ctx, server, "/api/v1/releases", url.Values{}, 1)
	if err != nil || len(newest) == 0 {
		return nil, err
	}
	var files struct {
		Files []struct {
			Path   string `json:"path"`
			Digest string `json:"digest"`
		} `json:"files"`
	}
	if err := server.get(ctx, fmt.Sprintf("/api/v1/releases/%d", newest[0].Number), nil, &files); err != nil {
		return nil, err
	}
	there := map[string]string{}
	for _, f := range files.Files {
		there[f.Path] = f.Digest
	}
	return there, nil
}

// documentVersion returns the newest version of a document, 0 where there is none.
func documentVersion(ctx context.Context, server *remote, path string) (int64, error) {
	var doc struct {
		Version int64 `json:"version"`
	}
	err := server.get(ctx, documentPath(path), nil, &doc)
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return 0, nil
	}
	return doc.Version, err
}

// precondition says that the writer has read this version.
func precondition(version int64) http.Header {
	if version == 0 {
		return http.Header{"If-None-Match": {"*"}}
	}
	return http.Header{"If-Match": {strconv.Quote(strconv.FormatInt(version, 10))}}
}

func putDraft(ctx context.Context, server *remote, f bundles.File) error {
	version, err := documentVersion(ctx, server, f.Path)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"content": string(f.Data)})
	if err != nil {
		return fmt.Errorf("encode %s: %w", f.Path, err)
	}
	_, err = server.callWith(ctx, http.MethodPut, documentPath(f.Path), precondition(version), body)
	return err
}

func removeDraft(ctx context.Context, server *remote, path string) error {
	version, err := documentVersion(ctx, server, path)
	if err != nil || version == 0 {
		return err
	}
	_, err = server.callWith(ctx, http.MethodDelete, documentPath(path), precondition(version), nil)
	return err
}

func documentPath(path string) string {
	steps := strings.Split(path, "/")
	for i := range steps {
		steps[i] = url.PathEscape(steps[i])
	}
	return "/api/v1/policies/" + strings.Join(steps, "/")
}
