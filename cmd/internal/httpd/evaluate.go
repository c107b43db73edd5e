package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/xiezhi-project/xiezhi/bundles"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// MaxCandidate is how many documents one candidate may hold.
const MaxCandidate = 64

// compileTimeout bounds loading a revision and compiling a candidate: it is
// the caller's text that is compiled.
const compileTimeout = 20 * time.Second

// evaluate answers POST /api/v1/evaluate.
func (c *call) evaluate() error {
	body, err := c.value()
	if err != nil {
		return err
	}
	req, err := c.requestOf(body, "at_least_revision", "revision", "explain", "candidate")
	if err != nil {
		return err
	}
	ask, err := evaluationOf(body)
	if err != nil {
		return err
	}
	right := rightEvaluate
	if !c.asksForItself(&req) { // the answer tells what somebody else may do
		right = rightEvaluateOnBehalf
	}
	if err := c.allow(right, req.Tenant); err != nil {
		return err
	}
	if err := c.mayTry(ask.documents, req.Tenant); err != nil {
		return err
	}
	if err := c.await(ask.atLeast); err != nil {
		return err
	}
	snapshot, err := c.snapshot(ask)
	if err != nil {
		return err
	}
	d, explanation, err := c.config.PDP.Evaluate(c.ctx, snapshot, req, ask.explain)
	if err != nil {
		return err
	}
	var explained []byte
	if ask.explain {
		if explained, err = json.Marshal(explanation); err != nil {
			return fmt.Errorf("encode the explanation: %w", err)
		}
	}
	c.setRevision(d.Revision)
	c.answerJSON(http.StatusOK, func(buf []byte) []byte {
		buf = d.AppendJSON(buf)
		if explained == nil {
			return buf
		}
		buf = append(buf[:len(buf)-1], `,"explanation":`...)
		return append(append(buf, explained...), '}')
	})
	return nil
}

// evaluation is what an evaluate body says beside the request.
type evaluation struct {
	atLeast, revision authz.Revision
	explain           bool
	documents         []bundles.File
}

func evaluationOf(body authz.Value) (evaluation, error) {
	var e evaluation
	var err error
	if e.atLeast, err = revisionOf(body, "at_least_revision"); err != nil {
		return evaluation{}, err
	}
	if e.revision, err = revisionOf(body, "revision"); err != nil {
		return evaluation{}, err
	}
	if explain, given := body.Get("explain"); given {
		if explain.Kind() != authz.KindBool {
			return evaluation{}, &authz.FieldError{Path: "/explain", Detail: fmt.Sprintf("want a boolean, not a %s", explain.Kind())}
		}
		e.explain = explain.Bool()
	}
	candidate, given := body.Get("candidate")
	if !given {
		return e, nil
	}
	e.documents, err = candidateOf(candidate)
	return e, err
}

// candidateOf reads one document or a list of them.
func candidateOf(v authz.Value) ([]bundles.File, error) {
	if v.Kind() == authz.KindObject {
		d, err := documentOf(v, "/candidate")
		return []bundles.File{d}, err
	}
	if v.Kind() != authz.KindList {
		return nil, &authz.FieldError{Path: "/candidate", Detail: fmt.Sprintf("want a document or a list of them, not a %s", v.Kind())}
	}
	if v.Len() == 0 || v.Len() > MaxCandidate {
		return nil, &authz.FieldError{Path: "/candidate", Detail: fmt.Sprintf("want 1 to %d documents", MaxCandidate)}
	}
	documents := make([]bundles.File, v.Len())
	seen := map[string]bool{}
	for i := range documents {
		at := fmt.Sprintf("/candidate/%d", i)
		d, err := documentOf(v.Index(i), at)
		if err != nil {
			return nil, err
		}
		if seen[d.Path] {
			return nil, &authz.FieldError{Path: at + "/path", Detail: "this path is given twice"}
		}
		seen[d.Path], documents[i] = true, d
	}
	return documents, nil
}

func documentOf(v authz.Value, at string) (bundles.File, error) {
	if v.Kind() != authz.KindObject {
		return bundles.File{}, &authz.FieldError{Path: at, Detail: fmt.Sprintf("want an object, not a %s", v.Kind())}
	}
	var d bundles.File
	for i := range v.Len() {
		name, member := v.Name(i), v.Index(i)
		if name != "path" && name != "content" {
			return bundles.File{}, &authz.FieldError{Path: at + pointer(name), Detail: "unknown member"}
		}
		if member.Kind() != authz.KindString {
			return bundles.File{}, &authz.FieldError{Path: at + "/" + name, Detail: fmt.Sprintf("want a string, not a %s", member.Kind())}
		}
		if name == "path" {
			d.Path = member.Text()
		} else {
			d.Data = []byte(member.Text())
		}
	}
	switch {
	case d.Path == "":
		return bundles.File{}, &authz.FieldError{Path: at + "/path", Detail: "required"}
	case len(d.Data) > pap.MaxDocumentBytes:
		return bundles.File{}, &authz.FieldError{Path: at + "/content", Detail: fmt.Sprintf("over %d bytes", pap.MaxDocumentBytes)}
	}
	return d, nil
}

// mayTry asks for the right to try documents: in the request's tenant for that
// tenant's own, on the platform for any other. So nobody tries what could read
// more than they may.
func (c *call) mayTry(documents []bundles.File, tenant string) error {
	for _, d := range documents {
		_, owner, err := pap.Place(d.Path)
		if err != nil {
			return &authz.FieldError{Path: "/candidate", Detail: err.Error()}
		}
		// Tables, attributes and schemas are shared: who may replace one here
		// could make every tenant's policies read it.
		where := pap.Platform
		if owner == tenant {
			where = tenant
		}
		if err := c.allow(rightCandidate, where); err != nil {
			return err
		}
	}
	return nil
}

// snapshot is what the evaluation answers by.
func (c *call) snapshot(e evaluation) (*pdp.Snapshot, error) {
	base := c.config.PDP.Active()
	if base == nil {
		return nil, pdp.ErrNotReady
	}
	ctx, cancel := context.WithTimeout(c.ctx, compileTimeout)
	defer cancel()
	if !e.revision.IsZero() && e.revision != base.Revision() {
		var err error
		if base, err = c.config.Preview.At(ctx, e.revision); errors.Is(err, pap.ErrNotFound) {
			return nil, &authz.FieldError{Path: "/revision", Detail: fmt.Sprintf("the store does not hold %s", e.revision)}
		} else if err != nil {
			return nil, fmt.Errorf("load revision %s: %w", e.revision, err)
		}
	}
	if len(e.documents) == 0 {
		return base, nil
	}
	return c.config.Preview.With(ctx, base, e.documents)
}
