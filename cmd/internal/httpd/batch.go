package httpd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// MaxBatch is how many requests one batch may hold.
const MaxBatch = 1000

// semantic is one of AuthZEN's three ways through a batch.
type semantic string

const (
	executeAll          semantic = "execute_all"
	denyOnFirstDeny     semantic = "deny_on_first_deny"
	permitOnFirstPermit semantic = "permit_on_first_permit"
)

// semanticOf reads options.evaluations_semantic. Strict refuses other options.
func semanticOf(body authz.Value, strict bool) (semantic, error) {
	options, given := body.Get("options")
	if !given {
		return executeAll, nil
	}
	if options.Kind() != authz.KindObject {
		return "", &authz.FieldError{Path: "/options", Detail: fmt.Sprintf("want an object, not a %s", options.Kind())}
	}
	if strict {
		for i := range options.Len() {
			if options.Name(i) != "evaluations_semantic" {
				return "", &authz.FieldError{Path: pointer("options", options.Name(i)), Detail: "unknown member"}
			}
		}
	}
	chosen, given := options.Get("evaluations_semantic")
	if !given {
		return executeAll, nil
	}
	switch s := semantic(chosen.Text()); s {
	case executeAll, denyOnFirstDeny, permitOnFirstPermit:
		return s, nil
	default:
		return "", &authz.FieldError{Path: "/options/evaluations_semantic", Detail: "want execute_all, deny_on_first_deny or permit_on_first_permit"}
	}
}

// ends reports whether the batch ends with this answer.
func (s semantic) ends(a *answered) bool {
	allowed := a.err == nil && a.Allowed()
	return s == denyOnFirstDeny && !allowed || s == permitOnFirstPermit && allowed
}

// evaluationsOf returns the items of a batch; none where the member is absent.
func evaluationsOf(body authz.Value) (authz.Value, error) {
	items, given := body.Get("evaluations")
	switch {
	case !given:
		return authz.ListValue(), nil
	case items.Kind() != authz.KindList:
		return items, &authz.FieldError{Path: "/evaluations", Detail: fmt.Sprintf("want a list, not a %s", items.Kind())}
	case items.Len() > MaxBatch:
		return items, &authz.FieldError{Path: "/evaluations", Detail: fmt.Sprintf("%d items; at most %d", items.Len(), MaxBatch)}
	}
	return items, nil
}

// answered is the answer to one item. An error denies.
type answered struct {
	Answer
	err error
}

// question is one item that may be asked, or the reason why not.
type question struct {
	req authz.Request
	err error
}

// batchRights answers each pair of tenant and self-or-other once.
type batchRights struct {
	c     *call
	known map[batchRight]error
}

type batchRight struct {
	tenant string
	itself bool
}

func (b *batchRights) mayDecide(req *authz.Request) error {
	key := batchRight{req.Tenant, b.c.asksForItself(req)}
	err, known := b.known[key]
	if !known {
		err = b.c.mayDecide(req)
		b.known[key] = err
	}
	return err
}

// refused returns the refusal of the whole batch: of a caller that may ask for
// none of the items. Where no item could be read, so that no right was asked
// for, the caller must still be one who may ask for something.
func (b *batchRights) refused(questions []question, tenant string) error {
	if !b.c.asked {
		err := b.c.allow(RightDecide, tenant)
		if errors.Is(err, pap.ErrForbidden) {
			err = b.c.allow(rightOnBehalf, tenant)
		}
		return err
	}
	for _, q := range questions {
		if !errors.Is(q.err, pap.ErrForbidden) {
			return nil
		}
	}
	return questions[0].err
}

// askAll decides the questions in order, each with its own record. Those that
// end early are asked one after the other: a decision behind the end would be
// recorded and count uses for nobody.
func (c *call) askAll(questions []question, how semantic, caller pdp.Caller) []answered {
	answers := make([]answered, len(questions))
	ask := func(i int) {
		answers[i].err = questions[i].err
		if answers[i].err == nil {
			d, err := c.decideItem(questions[i].req, itemCaller(caller, i))
			answers[i] = answered{d, under(itemPath(i), err)}
		}
	}
	if how != executeAll {
		for i := range questions {
			if ask(i); how.ends(&answers[i]) {
				return answers[:i+1]
			}
		}
		return answers
	}
	var next atomic.Int64
	work := func() {
		began := time.Now()
		for i := int(next.Add(1)) - 1; i < len(questions); i = int(next.Add(1)) - 1 {
			ask(i)
			if time.Since(began) >= stepBack {
				runtime.Gosched() // other calls wait for some items, not for the batch
				began = time.Now()
			}
		}
	}
	var wg sync.WaitGroup
	for range batchWorkers(len(questions)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return answers
}

// stepBack is how long a batch keeps a core to itself where others wait for it.
// After each item it would find its memory displaced by the others' each time.
const stepBack = 500 * time.Microsecond

// batchWorkers is how many items are decided at once: with half of the cores,
// so that a batch leaves the others to single calls.
func batchWorkers(items int) int { return min(max(1, runtime.GOMAXPROCS(0)/2), items) }

// decideItem keeps a panic inside its item: it would end the process from a
// worker.
func (c *call) decideItem(req authz.Request, caller pdp.Caller) (d Answer, err error) {
	defer func() {
		if r := recover(); r != nil {
			c.metrics.panics.Inc()
			c.config.Log.Error("a decision panicked", "panic", r)
			d, err = Answer{}, errInternal
		}
	}()
	return c.decideOn(c.ctx, req, caller)
}

func itemPath(i int) string { return "/evaluations/" + strconv.Itoa(i) }

func itemCaller(caller pdp.Caller, i int) pdp.Caller {
	if caller.IdempotencyKey != "" {
		caller.IdempotencyKey += "/" + strconv.Itoa(i)
	}
	return caller
}

// requestMembers are those that a batch's items inherit.
var requestMembers = [...]string{"tenant", "subject", "action", "resource", "context"}

// decideBatch answers POST /api/v1/decide/batch.
func (c *call) decideBatch() error {
	body, err := c.value()
	if err != nil {
		return err
	}
	if err := checkMembers(body, "at_least_revision", "evaluations", "options", "permit"); err != nil {
		return err
	}
	how, err := semanticOf(body, true)
	if err != nil {
		return err
	}
	items, err := evaluationsOf(body)
	if err != nil {
		return err
	}
	if items.Len() == 0 {
		return &authz.FieldError{Path: "/evaluations", Detail: "required: at least one item"}
	}
	extras, err := extrasOf(body)
	if err != nil {
		return err
	}
	caller, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	rights := batchRights{c: c, known: map[batchRight]error{}}
	questions := make([]question, items.Len())
	for i := range questions {
		q := &questions[i]
		if q.req, q.err = c.itemRequest(body, items.Index(i), i); q.err == nil {
			q.err = rights.mayDecide(&q.req)
		}
	}
	named, _ := body.Get("tenant")
	tenant, err := c.tenant(named.Text())
	if err != nil {
		return err
	}
	if err := rights.refused(questions, tenant); err != nil {
		return err
	}
	if extras.permit {
		return errPermitsUnavailable
	}
	if err := c.await(extras.atLeast); err != nil {
		return err
	}
	if c.config.Decider.Revision().IsZero() {
		return pdp.ErrNotReady
	}
	answers := c.askAll(questions, how, caller)
	c.setDecided(deciders(answers)...)
	c.answerJSON(http.StatusOK, func(buf []byte) []byte {
		buf = append(buf, `{"evaluations":[`...)
		for i := range answers {
			if i > 0 {
				buf = append(buf, ',')
			}
			buf = c.appendAnswer(buf, &answers[i])
		}
		return append(buf, `]}`...)
	})
	return nil
}

// deciders are where the answers come from.
func deciders(answers []answered) []string {
	var by []string
	for i := range answers {
		if d := answers[i].Decided; d != "" && !slices.Contains(by, d) {
			by = append(by, d)
		}
	}
	return by
}

// checkMembers refuses members that are neither the request's nor extra.
func checkMembers(body authz.Value, extra ...string) error {
	if body.Kind() != authz.KindObject {
		return &authz.FieldError{Detail: fmt.Sprintf("want an object, not a %s", body.Kind())}
	}
next:
	for i := range body.Len() {
		name := body.Name(i)
		for _, known := range requestMembers {
			if name == known {
				continue next
			}
		}
		for _, known := range extra {
			if name == known {
				continue next
			}
		}
		return &authz.FieldError{Path: pointer(name), Detail: "unknown member"}
	}
	return nil
}

// itemRequest reads one item on top of the batch's defaults, whole member by
// whole member. A path of an inherited member names the batch's own.
func (c *call) itemRequest(body, item authz.Value, i int) (authz.Request, error) {
	prefix := itemPath(i)
	if item.Kind() != authz.KindObject {
		return authz.Request{}, &authz.FieldError{Path: prefix, Detail: fmt.Sprintf("want an object, not a %s", item.Kind())}
	}
	req, err := c.requestOf(withDefaults(body, item))
	if err != nil {
		return authz.Request{}, itemError(err, body, item, prefix)
	}
	return req, nil
}

// withDefaults is the item with the request members that it lacks taken from
// body.
func withDefaults(body, item authz.Value) authz.Value {
	members := make([]authz.Member, item.Len(), item.Len()+len(requestMembers))
	copy(members, item.Members())
	for _, name := range requestMembers {
		if _, own := item.Get(name); own {
			continue
		}
		if inherited, ok := body.Get(name); ok {
			members = append(members, authz.Member{Name: name, Value: inherited})
		}
	}
	if len(members) == item.Len() {
		return item
	}
	merged, _ := authz.ObjectValue(members...) // the names differ
	return merged
}

func itemError(err error, body, item authz.Value, prefix string) error {
	for _, name := range requestMembers {
		_, own := item.Get(name)
		_, inherited := body.Get(name)
		if !own && inherited && pointsInto(err, name) {
			return err
		}
	}
	return under(prefix, err)
}

// appendAnswer appends one item of our batch: the decision, or a DENY with the
// problem that prevented it.
func (c *call) appendAnswer(buf []byte, a *answered) []byte {
	if a.err == nil {
		return a.AppendJSON(buf)
	}
	p := c.itemProblem(a.err)
	data, err := json.Marshal(p)
	if err != nil { // strings and numbers only: it cannot be
		data = []byte(`{}`)
	}
	buf = append(buf, `{"effect":"DENY","decision":false,"error":`...)
	return append(append(buf, data...), '}')
}

// itemProblem is the problem of one item; what is hidden is in the log.
func (c *call) itemProblem(err error) Problem {
	p, hidden := problemOf(err)
	if hidden {
		id := c.requestID(c.fiber)
		p.Detail = "the cause is in the server's log, under request id " + id
		c.config.Log.Error("an item of a batch failed", "operation", c.route.Operation, "request_id", id, "error", err)
	}
	return p
}
