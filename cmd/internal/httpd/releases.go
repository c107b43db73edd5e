package httpd

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// publishRights are what a publication may ask for, by what changes.
var publishRights = []string{"release.publish", "release.publish.platform", "release.publish.self"}

func releaseRoutes() []Route {
	return []Route{
		{
			Method: http.MethodPost, Path: "/api/v1/releases", Operation: "publishRelease",
			Rights:  slices.Concat(publishRights, []string{rightRollout}),
			Summary: "Publish drafts: parse, compile, run test cases, store, activate; a fault changes nothing",
			Headers: []string{"Idempotency-Key"}, Body: "Publication",
			Status: http.StatusCreated, Waiting: "WaitingRelease", Answer: "PublishedRelease", Replay: true, handle: (*call).publishRelease,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/releases", Operation: "listReleases", Rights: []string{"release.read"},
			Summary: "List releases, the newest first", Query: []string{"limit", "cursor"},
			Status: http.StatusOK, Answer: "ReleaseList", handle: (*call).listReleases,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/releases/{number}", Operation: "readRelease", Rights: []string{"release.read"},
			Summary: "Read one release and the files that the caller may see", Status: http.StatusOK, Answer: "Release", handle: (*call).readRelease,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/releases/{from}/diff/{to}", Operation: "diffReleases", Rights: []string{"release.read"},
			Summary: "Compare two releases file by file", Status: http.StatusOK, Answer: "ReleaseDiff", handle: (*call).diffReleases,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/releases/{number}/restore", Operation: "restoreRelease",
			Rights:  publishRights,
			Summary: "Publish the content of an older release as the next one", Headers: []string{"Idempotency-Key"},
			Status: http.StatusCreated, Waiting: "WaitingRelease", Answer: "PublishedRelease", Replay: true, handle: (*call).restoreRelease,
		},
	}
}

func (c *call) publishRelease() error {
	body, err := decode[struct {
		Drafts   []string       `json:"drafts"`
		Note     string         `json:"note"`
		Stages   []pap.Selector `json:"stages"`
		MinStage int            `json:"min_stage_seconds"`
		Tenants  []string       `json:"tenants"`
	}](c)
	if err != nil {
		return err
	}
	if err := c.mayPublish(); err != nil {
		return err
	}
	release, revision, err := c.config.PAP.Publish(c.ctx, c.actor(), pap.Publication{
		Drafts: body.Drafts, Note: body.Note, Stages: body.Stages, MinStage: time.Duration(body.MinStage) * time.Second,
		Tenants: body.Tenants,
	})
	return c.published(release, revision, err)
}

func (c *call) restoreRelease() error {
	number, err := c.releaseNumber("number")
	if err != nil {
		return err
	}
	if err := c.mayPublish(); err != nil {
		return err
	}
	release, revision, err := c.config.PAP.Restore(c.ctx, c.actor(), number)
	return c.published(release, revision, err)
}

// mayPublish refuses callers that may publish nothing at all, before the store
// is read for them. Which places a release changes, and whether the caller may
// change them, pap asks when it knows.
func (c *call) mayPublish() error {
	var refused error
	for _, right := range publishRights {
		err := c.allow(right, c.caller.Tenant)
		if !errors.Is(err, pap.ErrForbidden) {
			return err
		}
		if refused == nil {
			refused = err
		}
	}
	return refused
}

// waitingRelease is a publication that people must say yes to first.
type waitingRelease struct {
	Case   string `json:"case"`
	Status string `json:"status"`
}

// published answers without the list of files, which a release read gives.
func (c *call) published(release pap.Release, revision authz.Revision, err error) error {
	var needs *pap.NeedsReviewError
	switch {
	case errors.Is(err, pap.ErrVersion):
		return errRaced
	case errors.As(err, &needs) && needs.Case != "":
		return c.answer(http.StatusAccepted, waitingRelease{needs.Case, authz.ApprovalPending})
	}
	release.Files = nil
	return c.changed(http.StatusCreated, release, revision, err)
}

func (c *call) listReleases() error {
	cursor, limit, err := c.page()
	if err != nil {
		return err
	}
	var before uint64
	if cursor != "" {
		if before, err = strconv.ParseUint(cursor, 10, 64); err != nil {
			return &parameterError{Name: "cursor", Detail: "not a cursor of this list"}
		}
	}
	page, err := c.config.PAP.Releases(c.ctx, c.actor(), before, limit)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, pageOf(page, itself[pap.Release]))
}

func (c *call) readRelease() error {
	number, err := c.releaseNumber("number")
	if err != nil {
		return err
	}
	release, err := c.config.PAP.Release(c.ctx, c.actor(), number)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, release)
}

// fileDiffJSON is one changed file. Before is absent for an added one, After
// for a removed one.
type fileDiffJSON struct {
	Path   string  `json:"path"`
	Change string  `json:"change"`
	Before *string `json:"before,omitempty"`
	After  *string `json:"after,omitempty"`
}

func (c *call) diffReleases() error {
	from, err := c.releaseNumber("from")
	if err != nil {
		return err
	}
	to, err := c.releaseNumber("to")
	if err != nil {
		return err
	}
	diffs, err := c.config.PAP.Diff(c.ctx, c.actor(), from, to)
	if err != nil {
		return err
	}
	files := make([]fileDiffJSON, len(diffs))
	for i, d := range diffs {
		files[i] = fileDiffOf(d)
	}
	return c.answer(http.StatusOK, struct {
		From  uint64         `json:"from"`
		To    uint64         `json:"to"`
		Files []fileDiffJSON `json:"files"`
	}{from, to, files})
}

func fileDiffOf(d pap.FileDiff) fileDiffJSON {
	f := fileDiffJSON{Path: d.Path, Change: "changed"}
	before, after := string(d.Before), string(d.After)
	if f.Before = &before; d.Before == nil {
		f.Change, f.Before = "added", nil
	}
	if f.After = &after; d.After == nil {
		f.Change, f.After = "removed", nil
	}
	return f
}

// releaseNumber reads "42" or "r42" from the path.
func (c *call) releaseNumber(name string) (uint64, error) {
	text, err := c.param(name)
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseUint(strings.TrimPrefix(text, "r"), 10, 64)
	if err != nil || number == 0 {
		return 0, &parameterError{Name: name, Detail: "want a release number, such as 42"}
	}
	return number, nil
}
