package pep

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// guarded is one guarded call and what happened in it.
type guarded struct {
	config Config
	answer Answer
	err    error // of the decision

	ran    []string // handlers, and "do"
	log    bytes.Buffer
	counts Enforced
}

// handler notes that it ran and returns err.
func (g *guarded) handler(name string, err error) ObligationHandler {
	return func(ctx context.Context, _ authz.Request, o authz.Obligation) error {
		if a, ok := DecisionFrom(ctx); !ok || a.ID != g.answer.ID {
			return errors.New("no decision in the context")
		}
		g.ran = append(g.ran, name)
		return err
	}
}

func (g *guarded) run(ctx context.Context) error {
	g.config.Log = slog.New(slog.NewTextHandler(&g.log, nil))
	e := newEnforcement(g.config)
	err := e.guard(ctx, authz.Request{Tenant: "acme", Action: authz.Action{Name: "order.create"}},
		func(context.Context, authz.Request) (Answer, error) { return g.answer, g.err },
		func(ctx context.Context) error {
			if _, ok := DecisionFrom(ctx); !ok {
				return errors.New("no decision in the context")
			}
			g.ran = append(g.ran, "do")
			return nil
		})
	g.counts = e.counts()
	return err
}

func allowing(obligations ...authz.Obligation) Answer {
	return Answer{Decision: authz.Decision{ID: "d1", Effect: authz.Allow, Obligations: obligations}}
}

func must(id string) authz.Obligation   { return authz.Obligation{ID: id, Must: true} }
func advice(id string) authz.Obligation { return authz.Obligation{ID: id} }

var errHandler = errors.New("disk full")

func TestGuardRunsTheActionOnlyWhereEverythingIsMet(t *testing.T) {
	panics := func(context.Context, authz.Request, authz.Obligation) error { panic("boom") }
	limited := func(err error) LimitHandler {
		return func(context.Context, authz.Request, []authz.Limit) error { return err }
	}
	routed := func(err error) RouteHandler {
		return func(context.Context, authz.Request, authz.Route) error { return err }
	}
	withLimit, withRoute := allowing(must("a")), allowing(must("a"))
	withLimit.Limits = []authz.Limit{{Key: "tenant"}}
	withRoute.Route = &authz.Route{Pool: "blue"}
	denied := allowing(must("a"), must("notify"))
	denied.Effect = authz.Deny
	review := denied
	review.Effect = authz.Review

	tests := map[string]struct {
		answer  Answer
		err     error // of the decision
		aErr    error // of handler a
		limits  LimitHandler
		routes  RouteHandler
		want    error // nil: the action ran
		ran     string
		counted Enforced
	}{
		"no obligation":                  {answer: allowing(), ran: "do", counted: Enforced{Allowed: 1}},
		"met in the order of the answer": {answer: allowing(must("b"), advice("a")), ran: "b a do", counted: Enforced{Allowed: 1}},
		"an unknown obligation denies, and the others are still met": {
			answer: allowing(must("unknown"), must("a"), advice("b")), want: ErrUnknownObligation, ran: "a b", counted: Enforced{Unmet: 1}},
		"unknown advice is counted":             {answer: allowing(advice("unknown"), must("a")), ran: "a do", counted: Enforced{Allowed: 1, Advice: 1}},
		"a failing handler denies":              {answer: allowing(must("a"), must("b")), aErr: errHandler, want: errHandler, ran: "a b", counted: Enforced{Unmet: 1}},
		"failing advice is counted":             {answer: allowing(advice("a"), must("b")), aErr: errHandler, ran: "a b do", counted: Enforced{Allowed: 1, Advice: 1}},
		"a panicking handler denies":            {answer: allowing(must("panics")), want: errAny, counted: Enforced{Unmet: 1}},
		"panicking advice is counted":           {answer: allowing(advice("panics")), ran: "do", counted: Enforced{Allowed: 1, Advice: 1}},
		"limits that nobody enforces deny":      {answer: withLimit, want: ErrLimitsUnenforced, ran: "a", counted: Enforced{Unmet: 1}},
		"limits are taken":                      {answer: withLimit, limits: limited(nil), ran: "a do", counted: Enforced{Allowed: 1}},
		"a spent limit denies":                  {answer: withLimit, limits: limited(ErrLimited), want: ErrLimited, ran: "a", counted: Enforced{Unmet: 1}},
		"a panicking limiter denies":            {answer: withLimit, limits: func(context.Context, authz.Request, []authz.Limit) error { panic("x") }, want: errAny, ran: "a", counted: Enforced{Unmet: 1}},
		"a route that nobody enforces denies":   {answer: withRoute, want: ErrRoutesUnenforced, ran: "a", counted: Enforced{Unmet: 1}},
		"a route is enforced":                   {answer: withRoute, routes: routed(nil), ran: "a do", counted: Enforced{Allowed: 1}},
		"a route that cannot be taken denies":   {answer: withRoute, routes: routed(errHandler), want: errHandler, ran: "a", counted: Enforced{Unmet: 1}},
		"DENY does what refusals ask for":       {answer: denied, want: errAny, ran: "refused", counted: Enforced{Denied: 1}},
		"REVIEW is a refusal":                   {answer: review, want: errAny, ran: "refused", counted: Enforced{Denied: 1}},
		"no decision, whatever the answer says": {answer: allowing(), err: ErrNoState, want: ErrNoState, counted: Enforced{Unanswered: 1}},
		"the zero answer denies":                {want: errAny, counted: Enforced{Denied: 1}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			g := &guarded{answer: tt.answer, err: tt.err}
			g.config = Config{
				Obligations: map[string]ObligationHandler{"a": g.handler("a", tt.aErr), "b": g.handler("b", nil), "panics": panics},
				Refusals:    map[string]ObligationHandler{"notify": g.handler("refused", nil)},
				Limits:      tt.limits, Routes: tt.routes,
			}
			err := g.run(t.Context())
			switch {
			case (err == nil) != (tt.want == nil) || tt.want != errAny && !errors.Is(err, tt.want):
				t.Errorf("error %v, want %v", err, tt.want)
			case err != nil && slices.Contains(g.ran, "do"):
				t.Error("the action ran")
			}
			if got := strings.Join(g.ran, " "); got != tt.ran {
				t.Errorf("ran %q, want %q", got, tt.ran)
			}
			if g.counts != tt.counted {
				t.Errorf("counted %+v, want %+v", g.counts, tt.counted)
			}
			var denied *DeniedError
			if tt.want != nil && tt.err == nil && !errors.As(err, &denied) {
				t.Errorf("%T is no DeniedError", err)
			}
			if r := RefusalOf(err); tt.want != nil && r.Status < 400 {
				t.Errorf("refused with %d", r.Status)
			}
		})
	}
}

// errAny stands for any error.
var errAny = errors.New("any")

func TestGuardTakesNoLimitForWhatIsNotRun(t *testing.T) {
	answer := allowing(must("unknown"))
	answer.Limits = []authz.Limit{{Key: "tenant"}}
	taken := false
	g := &guarded{answer: answer, config: Config{Limits: func(context.Context, authz.Request, []authz.Limit) error {
		taken = true
		return nil
	}}}
	if err := g.run(t.Context()); err == nil || taken {
		t.Errorf("error %v, a limit was taken: %t", err, taken)
	}
}

func TestGuardRunsNothingForACallerThatIsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := &guarded{answer: allowing(must("a")), config: Config{Obligations: map[string]ObligationHandler{
		"a": func(context.Context, authz.Request, authz.Obligation) error { cancel(); return nil },
	}}}
	if err := g.run(ctx); !errors.Is(err, context.Canceled) || len(g.ran) > 0 {
		t.Errorf("error %v, ran %v", err, g.ran)
	}
}

func TestAPanicOfTheActionIsItsOwn(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was swallowed")
		}
	}()
	_ = newEnforcement(Config{}).guard(t.Context(), authz.Request{},
		func(context.Context, authz.Request) (Answer, error) { return allowing(), nil },
		func(context.Context) error { panic("the service's own") })
}

func TestARefusalTellsTheCallerWhatConcernsIt(t *testing.T) {
	answer := Answer{Decision: authz.Decision{ID: "d1", Effect: authz.Review, Revision: authz.Revision{Release: 4, Position: 2}, Stale: true,
		Approval: &authz.Approval{ID: "cheq-1"},
		Reasons: []authz.Reason{
			{Policy: "p", Rule: "open", Effect: authz.Allow, Message: "fine"},
			{Policy: "p", Rule: "waived", Effect: authz.Deny, Message: "waived", Grant: "g"},
			{Policy: "p", Rule: "ask", Effect: authz.Review, Message: "Ask.", MessageZH: "请问。", Path: "/x", Cause: "secret-cause", Location: "a.rego:3"},
		}}}
	r := RefusalOf(&DeniedError{Answer: answer})
	if r.Status != 403 || r.Type != "urn:xiezhi:problem:review" || r.Approval.ID != "cheq-1" || r.Revision != "r4.g2" || !r.Stale {
		t.Errorf("%+v", r)
	}
	if want := []RefusalReason{{"p", "ask", authz.Review, "Ask.", "请问。", "/x"}}; !slices.Equal(r.Reasons, want) {
		t.Errorf("reasons %+v", r.Reasons)
	}
	for want, err := range map[string]error{
		CodeDenied:      &DeniedError{},
		CodeUnmet:       &DeniedError{Obligation: "encrypt", Err: errHandler},
		CodeLimited:     &DeniedError{Err: ErrLimited},
		CodeUnmapped:    errors.Join(ErrUnmapped, errHandler),
		CodeUnavailable: ErrNoState,
		CodeCanceled:    context.Canceled,
	} {
		if r := RefusalOf(err); r.Code != want || r.Type != "urn:xiezhi:problem:"+want || strings.Contains(r.Detail, errHandler.Error()) {
			t.Errorf("%v: %+v, want %s", err, r, want)
		}
	}
	if r := RefusalOf(nil); r.Status < 400 {
		t.Errorf("nothing is no permission: %+v", r)
	}
}

func TestAnAnswerSaysInJSONWhereItWasMade(t *testing.T) {
	for want, a := range map[string]Answer{
		`"permit":null,"decided":"in-process","why":""}`:      {},
		`"permit":null,"decided":"remote","why":"attribute"}`: {Remote: true, Why: "attribute"},
	} {
		data, err := a.MarshalJSON()
		if _, parsed := authz.Parse(data); err != nil || parsed != nil || !strings.HasSuffix(string(data), want) {
			t.Errorf("%s (%v, %v)", data, err, parsed)
		}
	}
}
