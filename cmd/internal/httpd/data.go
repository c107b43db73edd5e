package httpd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// The data API of OPA 1.22: what a policy package says, asked as a stock OPA
// with the same bundle is asked (docs/opa.md).

const rightDataRead = "data.read"

func dataRoutes() []Route {
	parameters := []string{"pretty", "provenance", "metrics", "strict-builtin-errors", "explain", "instrument", "rule_labels"}
	rights := []string{RightDecide, rightOnBehalf, rightDataRead}
	var routes []Route
	for _, at := range []struct{ path, operation string }{{"/v1/data/{path...}", "Data"}, {"/v1/data", "DataRoot"}} {
		routes = append(routes,
			Route{
				Method: http.MethodGet, Path: at.path, Operation: "get" + at.operation, Rights: rights, OPA: true,
				Summary: "OPA's data API: what one policy package or set says; the answer is recorded like a decision",
				Query:   append([]string{"input"}, parameters...),
				Status:  http.StatusOK, Answer: "OPAData", handle: (*call).getData,
			},
			Route{
				Method: http.MethodPost, Path: at.path, Operation: "post" + at.operation, Rights: rights, OPA: true,
				Summary: "OPA's data API with an input", Query: parameters,
				Body: "OPADataRequest", Status: http.StatusOK, Answer: "OPAData", handle: (*call).postData,
			})
	}
	return routes
}

// opaError is a refusal in OPA's form.
type opaError struct {
	status  int
	Code    string            `json:"code"`
	Message string            `json:"message"`
	Errors  []json.RawMessage `json:"errors,omitempty"`
}

func (e *opaError) Error() string { return e.Message }

// Unwrap tells where a right was missing.
func (e *opaError) Unwrap() error {
	if e.status == http.StatusForbidden {
		return pap.ErrForbidden
	}
	return nil
}

// Codes of OPA's errors.
const (
	opaInternal         = "internal_error"
	opaUnauthorized     = "unauthorized"
	opaInvalidParameter = "invalid_parameter"
)

func invalidParameter(format string, args ...any) *opaError {
	return &opaError{status: http.StatusBadRequest, Code: opaInvalidParameter, Message: fmt.Sprintf(format, args...)}
}

func (c *call) getData() error {
	var input *any
	if inputs := c.fiber.Context().QueryArgs().PeekMulti("input"); len(inputs) > 0 {
		var err error
		if input, err = decodeInput(bytes.Clone(inputs[len(inputs)-1])); err != nil {
			return invalidParameter("parameter contains malformed input document: %v", err)
		}
	}
	return c.data(input, false, c.config.Now())
}

func (c *call) postData() error {
	started := c.config.Now()
	body, err := c.dataBody()
	if err != nil {
		return err
	}
	var request struct {
		Input *any `json:"input"` // members beside it are the caller's own
	}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := decodeOne(body, &request); err != nil {
			return invalidParameter("body contains malformed input document: %v", err)
		}
	}
	return c.data(request.Input, request.Input == nil, started)
}

// dataBody returns a copy of the body, unpacked where it is packed.
func (c *call) dataBody() ([]byte, error) {
	request := c.fiber.Request()
	if strings.Contains(string(request.Header.ContentType()), "yaml") {
		return nil, invalidParameter("body contains malformed input document: this server reads JSON, not YAML")
	}
	body := request.Body()
	if len(body) > MaxBody {
		return nil, invalidParameter("request body too large: at most %d bytes", MaxBody)
	}
	switch encoding := string(request.Header.Peek("Content-Encoding")); encoding {
	case "", "identity":
		return bytes.Clone(body), nil
	case "gzip":
		plain, err := unpack(body, MaxBody)
		if err != nil {
			return nil, invalidParameter("could not decompress the body: %v", err)
		}
		return plain, nil
	default:
		return nil, invalidParameter("could not decompress the body: want gzip, not %s", encoding)
	}
}

// decodeOne reads one JSON value as OPA does, numbers as they are written.
func decodeOne(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the document")
	}
	return nil
}

func decodeInput(text []byte) (*any, error) {
	var input any
	if err := decodeOne(text, &input); err != nil {
		return nil, err
	}
	return &input, nil
}

// data answers a query of either method.
func (c *call) data(input *any, warn bool, started time.Time) error {
	parsed := c.config.Now()
	ask, err := c.dataParameters()
	if err != nil {
		return err
	}
	path, err := dataPath(c.fiber.Params("*"))
	if err != nil {
		return err
	}
	snapshot := c.config.PDP.Active()
	if snapshot == nil {
		return pdp.ErrNotReady
	}
	tenant, err := c.dataTenant(input, path)
	if err != nil {
		return err
	}
	if err := c.mayQuery(snapshot, tenant, path, input); err != nil {
		return err
	}
	q := pdp.DataQuery{Tenant: tenant, Path: path, Input: input, Strict: ask.strict}
	a, err := c.config.PDP.QueryData(c.ctx, snapshot, q, pdp.Caller{Name: c.caller.Name()})
	var failed *pdp.DataError
	if errors.As(err, &failed) {
		return &opaError{
			status: http.StatusInternalServerError, Code: opaInternal,
			Message: "error(s) occurred while evaluating query", Errors: []json.RawMessage{failed.Detail},
		}
	}
	if err != nil {
		return err
	}
	answer := opaAnswer{DecisionID: a.ID, Result: a.Result}
	if warn {
		answer.Warning = &opaWarning{Code: "api_usage_warning", Message: "'input' key missing from the request"}
	}
	if ask.provenance {
		answer.Provenance = provenanceOf(a.Revision)
	}
	if ask.metrics {
		now := c.config.Now()
		answer.Metrics = map[string]int64{
			"timer_rego_input_parse_ns": parsed.Sub(started).Nanoseconds(),
			"timer_rego_query_eval_ns":  now.Sub(parsed).Nanoseconds(),
			"timer_server_handler_ns":   now.Sub(started).Nanoseconds(),
		}
	}
	c.setRevision(a.Revision)
	return c.answerData(answer, ask.pretty)
}

// opaAnswer has OPA's members in OPA's order.
type opaAnswer struct {
	DecisionID string           `json:"decision_id,omitempty"`
	Provenance *opaProvenance   `json:"provenance,omitempty"`
	Metrics    map[string]int64 `json:"metrics,omitempty"`
	Result     json.RawMessage  `json:"result,omitempty"`
	Warning    *opaWarning      `json:"warning,omitempty"`
}

type opaWarning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type opaProvenance struct {
	Version   string               `json:"version"`
	Commit    string               `json:"build_commit"`
	Timestamp string               `json:"build_timestamp"`
	Hostname  string               `json:"build_hostname"`
	Bundles   map[string]opaBundle `json:"bundles,omitempty"`
}

type opaBundle struct {
	Revision string `json:"revision"`
}

func provenanceOf(r authz.Revision) *opaProvenance {
	p := &opaProvenance{Bundles: map[string]opaBundle{"xiezhi": {Revision: r.String()}}}
	if info, ok := debug.ReadBuildInfo(); ok {
		p.Version = info.Main.Version
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				p.Commit = s.Value
			case "vcs.time":
				p.Timestamp = s.Value
			}
		}
	}
	return p
}

// dataParameters reads OPA's parameters. One that is not offered is refused
// where leaving it out would mislead; a name that OPA does not know means
// nothing there, and nothing here.
type dataParameters struct{ pretty, provenance, metrics, strict bool }

func (c *call) dataParameters() (dataParameters, error) {
	ask := dataParameters{c.opaFlag("pretty"), c.opaFlag("provenance"), c.opaFlag("metrics"), c.opaFlag("strict-builtin-errors")}
	for _, mode := range c.fiber.Context().QueryArgs().PeekMulti("explain") {
		if slices.Contains([]string{"notes", "fails", "full", "debug"}, string(mode)) {
			return ask, invalidParameter("explain=%s is not offered here; POST /api/v1/evaluate explains decisions", mode)
		}
	}
	for _, name := range []string{"instrument", "rule_labels"} {
		if c.opaFlag(name) {
			return ask, invalidParameter("%s is not offered here", name)
		}
	}
	return ask, nil
}

// opaFlag reads a flag as OPA does: given without a value, or any "true".
func (c *call) opaFlag(name string) bool {
	values := c.fiber.Context().QueryArgs().PeekMulti(name)
	if len(values) == 1 && len(values[0]) == 0 {
		return true
	}
	return slices.ContainsFunc(values, func(v []byte) bool { return strings.EqualFold(string(v), "true") })
}

// dataPath reads the rest of the URL's path, empty steps left out.
func dataPath(raw string) ([]string, error) {
	path := []string{}
	for step := range strings.SplitSeq(strings.Clone(raw), "/") {
		if step == "" {
			continue
		}
		if plain, err := url.PathUnescape(step); err == nil {
			step = plain
		}
		if strings.Contains(step, `"`) || len(path) == authz.MaxDepth {
			return nil, invalidParameter("invalid path: invalid ref term '%s'", step)
		}
		path = append(path, step)
	}
	return path, nil
}

// dataTenant is the tenant that the query is of: what input.tenant says, which
// must be the credential's. Without an input it is the credential's own, or
// the one whose tables the platform reads; empty is the platform alone.
func (c *call) dataTenant(input *any, path []string) (string, error) {
	if input == nil {
		if c.caller.Tenant == "" && len(path) > 2 && path[0] == "xiezhi" && path[1] == "tenants" {
			if err := authz.ValidTenant(path[2]); err != nil {
				return "", invalidParameter("invalid path: %v", err)
			}
			return path[2], nil
		}
		return c.caller.Tenant, nil
	}
	if tooDeep(*input, 0) {
		return "", invalidParameter("input is nested deeper than %d levels", authz.MaxDepth)
	}
	whole, _ := (*input).(map[string]any)
	named, ok := whole["tenant"].(string)
	if !ok || authz.ValidTenant(named) != nil {
		return "", invalidParameter("input.tenant: required: the tenant that is asked for, which must be the credential's")
	}
	return c.tenant(named)
}

func tooDeep(data any, depth int) bool {
	if depth > authz.MaxDepth {
		return true
	}
	switch data := data.(type) {
	case []any:
		return slices.ContainsFunc(data, func(elem any) bool { return tooDeep(elem, depth+1) })
	case map[string]any:
		for _, elem := range data {
			if tooDeep(elem, depth+1) {
				return true
			}
		}
	}
	return false
}

// mayQuery asks for the rights that the place takes. Whoever asks for others,
// or vouches for attributes that only a source may say, asks on behalf.
func (c *call) mayQuery(s *pdp.Snapshot, tenant string, path []string, input *any) error {
	right := rightOnBehalf
	if input != nil && !s.SuppliesTrusted(*input) && c.isSubject(tenant, *input) {
		right = RightDecide
	}
	place := s.DataPlace(tenant, path)
	switch {
	case place.Kind == pdp.DataTables:
		return c.allow(rightDataRead, "") // raw data: the platform's right alone
	case place.Kind == pdp.DataPackage && place.Helpers:
		// Helpers may hold what they read of tables.
		if err := c.allow(rightDataRead, tenant); err != nil {
			return err
		}
	}
	if err := c.allow(right, tenant); err != nil {
		return err
	}
	if place.Kind == pdp.DataHidden {
		return &opaError{status: http.StatusForbidden, Code: opaUnauthorized, Message: fmt.Sprintf(
			"/v1/data/%s is not offered: ask for a policy's package or one of its sets deny, review, allow, obligations, limits, route", strings.Join(path, "/"))}
	}
	return nil
}

// isSubject reports whether the input's subject is the caller itself.
func (c *call) isSubject(tenant string, input any) bool {
	whole, _ := input.(map[string]any)
	subject, _ := whole["subject"].(map[string]any)
	return tenant == c.caller.Tenant && subject["type"] == c.caller.Type && subject["id"] == c.caller.ID
}

// minPacked is from how many bytes on an answer is packed for who takes that.
const minPacked = 1024

func (c *call) answerData(answer opaAnswer, pretty bool) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	if pretty {
		encoder.SetIndent("", "  ")
	}
	if err := encoder.Encode(answer); err != nil {
		return fmt.Errorf("encode the answer of %s: %w", c.route.Operation, err)
	}
	body, header := text.Bytes(), &c.fiber.Response().Header
	header.Set("Vary", "Accept-Encoding")
	if len(body) >= minPacked && acceptsGzip(c.header("Accept-Encoding")) {
		packed, err := pack(body)
		if err != nil {
			return fmt.Errorf("pack the answer of %s: %w", c.route.Operation, err)
		}
		header.Set("Content-Encoding", "gzip")
		body = packed
	}
	c.answerJSON(http.StatusOK, func(buf []byte) []byte { return append(buf, body...) })
	return nil
}

// failOPA answers in OPA's form.
func (c *call) failOPA(err error, p Problem) {
	var known *opaError
	if !errors.As(err, &known) {
		known = &opaError{status: p.Status, Code: opaInternal, Message: p.message()}
		switch p.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			known.Code = opaUnauthorized
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			known.status, known.Code = http.StatusBadRequest, opaInvalidParameter
		}
	}
	text, encodeErr := json.MarshalIndent(known, "", "  ")
	if encodeErr != nil { // texts and JSON of our own: it cannot be
		text = []byte(`{"code": "internal_error", "message": "the error cannot be written"}`)
	}
	c.answerJSON(known.status, func(buf []byte) []byte { return append(append(buf, text...), '\n') })
}
