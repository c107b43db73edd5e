package httpd

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func pepRoutes() []Route {
	return []Route{
		{
			Method: http.MethodGet, Path: "/api/v1/peps", Operation: "listPEPs", Rights: []string{"pep.read"},
			Summary: "List PEPs: what each holds, how far it is behind, what it refused",
			Query:   []string{"tenant", "serves", "labels", "id", "connected", "limit", "cursor"},
			Status:  http.StatusOK, Answer: "PEPList", handle: (*call).listPEPs,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/peps/{id}", Operation: "readPEP", Rights: []string{"pep.read"},
			Summary: "Read one PEP by its id, or by its key tenant/subject/id with each slash as %2F", Status: http.StatusOK, Answer: "PEP", handle: (*call).readPEP,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/releases/{number}/await", Operation: "awaitRelease", Rights: []string{"pep.read"},
			Summary: "Wait until a quorum of the connected PEPs holds a release such as 42, or a revision such as r42.g7", Query: []string{"quorum", "wait"},
			Status: http.StatusOK, Answer: "Acknowledged", handle: (*call).awaitRelease,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/policy/push", Operation: "pushPolicies", Rights: []string{"policy.push"},
			Summary: "Send the chosen PEPs everything again; none chosen are all that the caller may reach", Headers: []string{"Idempotency-Key"},
			Body: "Selector", Status: http.StatusOK, Answer: "Pushed", Replay: true, handle: (*call).pushPolicies,
		},
	}
}

func (c *call) listPEPs() error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	filter := pap.PEPFilter{Serves: c.query("serves")}
	if filter.Tenant, err = c.tenant(c.query("tenant")); err != nil {
		return err
	}
	if id := c.query("id"); id != "" {
		filter.IDs = []string{id}
	}
	if filter.Labels, err = c.queryLabels("labels"); err != nil {
		return err
	}
	if filter.Connected, err = c.queryBool("connected"); err != nil {
		return err
	}
	page, err := c.config.PAP.PEPs(c.ctx, c.actor(), filter, after, limit)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, pageOf(page, itself[pap.PEPState]))
}

// queryLabels reads "zone=a,kind=gateway".
func (c *call) queryLabels(name string) (map[string]string, error) {
	text := c.query(name)
	if text == "" {
		return nil, nil
	}
	labels := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		label, value, ok := strings.Cut(pair, "=")
		if _, twice := labels[label]; !ok || label == "" || twice {
			return nil, &parameterError{Name: name, Detail: strconv.Quote(text) + ": want name=value, each name once, with commas between them"}
		}
		labels[label] = value
	}
	return labels, nil
}

func (c *call) readPEP() error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	pep, err := c.config.PAP.PEP(c.ctx, c.actor(), id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, pep)
}

// How long a call waits for PEPs, unless told otherwise and at most.
const (
	awaitWait    = 10 * time.Second
	maxAwaitWait = 60 * time.Second
)

func (c *call) awaitRelease() error {
	quorum, err := pap.ParseQuorum(c.query("quorum"))
	if err != nil {
		return &parameterError{Name: "quorum", Detail: err.Error()}
	}
	wait, err := c.queryDuration("wait", awaitWait, maxAwaitWait)
	if err != nil {
		return err
	}
	text, err := c.param("number")
	if err != nil {
		return err
	}
	if err := c.allow("pep.read", c.caller.Tenant); err != nil {
		return err
	}
	if wait > 0 {
		end, err := c.waits.begin(c.caller.TokenID, c.caller.Tenant)
		if err != nil {
			return err
		}
		defer end()
	}
	var reached pap.Acknowledged
	if revision, malformed := authz.ParseRevision(text); malformed == nil {
		reached, err = c.config.PAP.AwaitRevision(c.ctx, c.actor(), revision, quorum, wait)
	} else {
		var number uint64
		if number, err = c.releaseNumber("number"); err != nil {
			return err
		}
		reached, err = c.config.PAP.AwaitRelease(c.ctx, c.actor(), number, quorum, wait)
	}
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, reached)
}

func (c *call) pushPolicies() error {
	chosen, err := decode[pap.Selector](c)
	if err != nil {
		return err
	}
	connected, revision, err := c.config.PAP.Push(c.ctx, c.actor(), chosen)
	return c.changed(http.StatusOK, struct {
		Connected int `json:"connected"`
	}{connected}, revision, err)
}
