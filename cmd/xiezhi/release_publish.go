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
	"time"

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
		staged stagedFlags
	)
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Write what differs from the newest release as drafts, and publish them",
		Long: `Publish compares a policy folder with the newest release of a server, writes each file
that differs as a draft, and publishes those drafts as one release: it compiles and
its test cases pass, or nothing changes. Files that the folder lacks stay, unless
--prune is given. A tenant's author names the own part with --only.

With --stage the release reaches the PEPs that each stage selects, one stage after
another, and then all others. It stops by itself and is taken back when one of them
rejects it. With --await the command ends when a quorum of the PEPs holds it.`,
		Example: "  xiezhi release publish --policies ./policies --note 'no GPUs'\n  xiezhi release publish --only tenants/acme/\n  xiezhi release publish --stage ring=canary --stage zone=a --min-stage 5m --await all --wait 30m",
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
			body, err := staged.body(note)
			if err != nil {
				return err
			}
			made, changed, err := publish(cmd.Context(), server, content, only, prune, body)
			var status *statusError
			if errors.As(err, &status) && status.code == http.StatusUnprocessableEntity {
				cmd.PrintErrf("xiezhi: %s\n", printable(err.Error()))
				return exit(exitFaults)
			}
			if err != nil {
				return err
			}
			if made.Case != "" {
				return made.waits(cmd)
			}
			if err := printPublished(cmd, made, changed); err != nil || len(changed) == 0 {
				return err
			}
			return staged.wait(cmd, server, made)
		},
	}
	at.register(cmd)
	cmd.Flags().StringVar(&folder.dir, "policies", "", "policy `folder` (default ./policies)")
	cmd.Flags().StringVar(&note, "note", "", "what the release is for")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove files of the release that the folder lacks")
	cmd.Flags().StringVar(&only, "only", "", "publish only paths with this `prefix`")
	staged.register(cmd)
	return cmd
}

func printPublished(cmd *cobra.Command, made release, changed []string) error {
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
}

// stagedFlags say how a release reaches PEPs.
type stagedFlags struct {
	stages   []string
	minStage time.Duration
	tenants  []string
	await    string
	within   time.Duration
}

func (f *stagedFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.stages, "stage", nil, "PEPs that get it first: `label=value` with commas, or ids; again for each stage")
	cmd.Flags().DurationVar(&f.minStage, "min-stage", 0, "how long each stage lasts at least")
	cmd.Flags().StringSliceVar(&f.tenants, "stage-tenants", nil, "`tenants` whose own PEPs count for the stages too, beside the platform's and those of tenants whose part changes")
	cmd.Flags().StringVar(&f.await, "await", "", "wait for a `quorum` of the PEPs: all, a share such as 90%, or a number")
	cmd.Flags().DurationVar(&f.within, "wait", longestWait, "how long --await waits")
}

// body is the publication without its drafts.
func (f *stagedFlags) body(note string) (map[string]any, error) {
	body := map[string]any{"note": note}
	if len(f.tenants) > 0 {
		body["tenants"] = f.tenants
	}
	if len(f.stages) == 0 {
		return body, nil
	}
	stages := make([]selector, len(f.stages))
	for i, text := range f.stages {
		var err error
		if stages[i], err = parseSelector(text); err != nil {
			return nil, fmt.Errorf("--stage %w", err)
		}
	}
	body["stages"], body["min_stage_seconds"] = stages, int(f.minStage.Seconds())
	return body, nil
}

func (f *stagedFlags) wait(cmd *cobra.Command, server *remote, made release) error {
	if f.await == "" {
		return nil
	}
	number := strconv.FormatUint(made.Number, 10)
	reached, err := await(cmd.Context(), server, number, f.await, f.within)
	if err != nil {
		return sayMissing(cmd, err)
	}
	if wantsJSON(cmd) {
		return nil // the release was printed, and the exit code says the rest
	}
	p := newPrinter(cmd)
	p.line("%s", reached.text("release "+number))
	return p.err
}

// publish returns the release and the paths that changed.
func publish(ctx context.Context, server *remote, content *bundles.Content, only string, prune bool, body map[string]any) (release, []string, error) {
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
	body["drafts"] = changed
	err = server.send(ctx, http.MethodPost, "/api/v1/releases", body, &made)
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
