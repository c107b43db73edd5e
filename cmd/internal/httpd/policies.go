package httpd

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

func policyRoutes() []Route {
	return []Route{
		{
			Method: http.MethodGet, Path: "/api/v1/policies", Operation: "listPolicies", Rights: []string{"policy.read"},
			Summary: "List policy documents, the newest version of each, without content",
			Query:   []string{"prefix", "layer", "tenant", "drafts", "deleted", "limit", "cursor"},
			Status:  http.StatusOK, Answer: "PolicyList", handle: (*call).listPolicies,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/policies", Operation: "createPolicy", Rights: []string{"policy.write"},
			Summary: "Write a new policy document as a draft; it changes no answer until it is published",
			Headers: []string{"Idempotency-Key"}, Body: "NewPolicy", MaxBody: MaxPolicyBody,
			Status: http.StatusCreated, Answer: "Policy", Replay: true, handle: (*call).createPolicy,
		},
		{
			Method: http.MethodGet, Path: "/api/v1/policies/{path...}", Operation: "readPolicy", Rights: []string{"policy.read"},
			Summary: "Read the newest version of a policy document; its ETag is what If-Match asks for",
			Status:  http.StatusOK, Answer: "Policy", handle: (*call).readPolicy,
		},
		{
			Method: http.MethodPut, Path: "/api/v1/policies/{path...}", Operation: "writePolicy", Rights: []string{"policy.write"},
			Summary: "Write the next version as a draft",
			Headers: []string{"If-Match", "If-None-Match", "Idempotency-Key"}, Body: "PolicyContent", MaxBody: MaxPolicyBody,
			Status: http.StatusOK, Answer: "Policy", Replay: true, handle: (*call).writePolicy,
		},
		{
			Method: http.MethodDelete, Path: "/api/v1/policies/{path...}", Operation: "deletePolicy", Rights: []string{"policy.write"},
			Summary: "Write a draft that removes the document when it is published",
			Headers: []string{"If-Match", "Idempotency-Key"},
			Status:  http.StatusOK, Answer: "Policy", Replay: true, handle: (*call).deletePolicy,
		},
	}
}

// policyJSON is a document on the wire.
type policyJSON struct {
	Path      string    `json:"path"`
	Version   int64     `json:"version"`
	Layer     string    `json:"layer"`
	Tenant    string    `json:"tenant,omitempty"`
	Draft     bool      `json:"draft"`
	Deleted   bool      `json:"deleted"`
	Release   uint64    `json:"release,omitempty"`
	UpdatedBy string    `json:"updated_by"`
	UpdatedAt time.Time `json:"updated_at"`
	Content   *string   `json:"content,omitempty"`
}

func policyOf(d pap.Document, withContent bool) policyJSON {
	p := policyJSON{
		Path: d.Path, Version: d.Version, Layer: d.Layer, Tenant: d.Tenant, Draft: d.Draft, Deleted: d.Deleted,
		Release: d.Release, UpdatedBy: d.UpdatedBy, UpdatedAt: d.UpdatedAt,
	}
	if withContent {
		content := string(d.Content)
		p.Content = &content
	}
	return p
}

func (c *call) listPolicies() error {
	after, limit, err := c.page()
	if err != nil {
		return err
	}
	filter := pap.DocumentFilter{Prefix: c.query("prefix"), Layer: c.query("layer")}
	if filter.Layer != "" && filter.Layer != "platform" && filter.Layer != "self" && filter.Layer != "tenant" {
		return &parameterError{Name: "layer", Detail: "want platform, self or tenant"}
	}
	if filter.OnlyDrafts, err = c.queryBool("drafts"); err != nil {
		return err
	}
	if filter.Deleted, err = c.queryBool("deleted"); err != nil {
		return err
	}
	if filter.Tenant, err = c.tenant(c.query("tenant")); err != nil {
		return err
	}
	page, err := c.config.PAP.Documents(c.ctx, c.actor(), filter, after, limit)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, pageOf(page, func(d pap.Document) policyJSON { return policyOf(d, false) }))
}

// newPolicy is the body of POST /api/v1/policies: a file of the repository, or
// a rule document (X8) whose file is named by its id.
type newPolicy struct {
	Path     string      `json:"path"`
	Content  *string     `json:"content"`
	Document authz.Value `json:"document"`
}

// file returns the file that is meant. A document without a path goes to the
// folder of the caller's tenant, or to platform/ for the platform's callers.
func (p *newPolicy) file(tenant string) (path string, content []byte, err error) {
	if p.Document.Kind() == authz.KindNull {
		content, err = contentOf(p.Content)
		return p.Path, content, err
	}
	id, _ := p.Document.Get("id")
	switch {
	case p.Content != nil:
		return "", nil, &authz.FieldError{Path: "/document", Detail: "give either content or document"}
	case p.Document.Kind() != authz.KindObject:
		return "", nil, &authz.FieldError{Path: "/document", Detail: "want a rule document, an object"}
	case p.Path == "" && id.Text() == "":
		return "", nil, &authz.FieldError{Path: "/document/id", Detail: "required: it names the file where path does not"}
	}
	if path = p.Path; path == "" {
		folder := "platform/"
		if tenant != "" {
			folder = "tenants/" + tenant + "/"
		}
		path = folder + id.Text() + ".policy.json"
	}
	return path, append(p.Document.AppendJSON(nil), '\n'), nil
}

func (c *call) createPolicy() error {
	body, err := decode[newPolicy](c)
	if err != nil {
		return err
	}
	path, content, err := body.file(c.caller.Tenant)
	if err != nil {
		return err
	}
	doc, err := c.config.PAP.PutDocument(c.ctx, c.actor(), path, content, 0)
	if err != nil {
		return err
	}
	c.fiber.Response().Header.Set(fiber.HeaderLocation, "/api/v1/policies/"+escapePath(doc.Path))
	return c.answerPolicy(http.StatusCreated, doc)
}

func (c *call) readPolicy() error {
	path, err := c.param("*")
	if err != nil {
		return err
	}
	doc, err := c.config.PAP.Document(c.ctx, c.actor(), path)
	if err != nil {
		return err
	}
	return c.answerPolicy(http.StatusOK, doc)
}

func (c *call) writePolicy() error {
	path, err := c.param("*")
	if err != nil {
		return err
	}
	version, err := c.ifVersion(true)
	if err != nil {
		return err
	}
	body, err := decode[struct {
		Content *string `json:"content"`
	}](c)
	if err != nil {
		return err
	}
	content, err := contentOf(body.Content)
	if err != nil {
		return err
	}
	doc, err := c.config.PAP.PutDocument(c.ctx, c.actor(), path, content, version)
	if err != nil {
		return c.precondition(err)
	}
	return c.answerPolicy(http.StatusOK, doc)
}

// contentOf tells an empty document from one that was left out.
func contentOf(text *string) ([]byte, error) {
	if text == nil {
		return nil, &authz.FieldError{Path: "/content", Detail: "required: the text of the document"}
	}
	return []byte(*text), nil
}

func (c *call) deletePolicy() error {
	path, err := c.param("*")
	if err != nil {
		return err
	}
	version, err := c.ifVersion(false)
	if err != nil {
		return err
	}
	doc, err := c.config.PAP.DeleteDocument(c.ctx, c.actor(), path, version)
	if err != nil {
		return err
	}
	return c.answerPolicy(http.StatusOK, doc)
}

func (c *call) answerPolicy(status int, d pap.Document) error {
	c.fiber.Response().Header.Set(fiber.HeaderETag, strconv.Quote(strconv.FormatInt(d.Version, 10)))
	return c.answer(status, policyOf(d, !d.Deleted))
}

// ifVersion reads the version that the caller has read: If-Match with the
// ETag, or where mayBeNew If-None-Match: * for 0, a document that must not
// exist yet. A call without either would overwrite what nobody has read.
func (c *call) ifVersion(mayBeNew bool) (int64, error) {
	match, none := c.header(fiber.HeaderIfMatch), c.header(fiber.HeaderIfNoneMatch)
	switch {
	case match == "" && none == "":
		return 0, errPrecondition
	case match != "" && none != "":
		return 0, &parameterError{Name: fiber.HeaderIfMatch, Detail: "give either If-Match or If-None-Match"}
	case none == "*" && mayBeNew:
		return 0, nil
	case none != "":
		return 0, &parameterError{Name: fiber.HeaderIfNoneMatch, Detail: fmt.Sprintf("%q: want * here", none)}
	}
	digits, quoted := strings.CutPrefix(strings.TrimSuffix(match, `"`), `"`)
	version, err := strconv.ParseInt(digits, 10, 64)
	if !quoted || err != nil || version < 1 || match != strconv.Quote(digits) {
		return 0, &parameterError{Name: fiber.HeaderIfMatch, Detail: fmt.Sprintf("%q: want the ETag that reading the document gave, such as \"3\"", match)}
	}
	return version, nil
}

// precondition answers a broken If-None-Match: * as RFC 9110 asks.
func (c *call) precondition(err error) error {
	if errors.Is(err, pap.ErrConflict) {
		return fmt.Errorf("%w: %w", pap.ErrVersion, err)
	}
	return err
}

// escapePath escapes a document path step by step.
func escapePath(path string) string {
	steps := strings.Split(path, "/")
	for i := range steps {
		steps[i] = url.PathEscape(steps[i])
	}
	return strings.Join(steps, "/")
}
