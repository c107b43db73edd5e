package pep_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// server stands for a Xiezhi server that allows orders to be created and lets
// the rest be reviewed.
func server() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req authz.Request
		body := make([]byte, 1<<16)
		n, _ := r.Body.Read(body)
		if err := req.UnmarshalJSON(body[:n]); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		d := authz.Decision{ID: "01K", Effect: authz.Review, Revision: authz.Revision{Release: 42, Position: 7}}
		if req.Action.Name == "order.create" {
			d.Effect = authz.Allow
			d.Obligations = []authz.Obligation{{Policy: "platform/orders", Rule: "log", ID: "log", Must: true, Params: authz.MustValue(map[string]any{"level": "info"})}}
		} else {
			d.Reasons = []authz.Reason{{Policy: "platform/orders", Rule: "refunds", Effect: authz.Review, Message: "somebody has to look at refunds"}}
		}
		w.Write(d.AppendJSON(nil))
	}))
}

func order(action string) authz.Request {
	return authz.Request{
		Tenant: "acme", Subject: authz.Entity{Type: "user", ID: "li.wei"}, Action: authz.Action{Name: action},
		Resource: authz.Entity{Type: "order", ID: "42"},
	}
}

// A PEP without an engine asks the server each time. With one, pdp/local's say,
// it decides in-process, and Trust and Dir are required.
func Example() {
	s := server()
	defer s.Close()
	ctx := context.Background()
	p, err := pep.New(ctx, pep.Config{
		Server: s.URL, Token: func() (string, error) { return "the access token", nil }, Tenants: []string{"acme"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close(ctx)
	answer, err := p.Decide(ctx, order("order.create"))
	if err != nil {
		fmt.Println("no answer, so no:", err)
		return
	}
	fmt.Println(answer.Effect, answer.Revision, answer.Remote, answer.Why)
	// Output: ALLOW r42.g7 true no_engine
}

// Guard runs the action where it is allowed and every obligation is met.
func ExamplePEP_Guard() {
	s := server()
	defer s.Close()
	ctx := context.Background()
	p, err := pep.New(ctx, pep.Config{
		Server: s.URL, Token: func() (string, error) { return "the access token", nil }, Tenants: []string{"acme"},
		Obligations: map[string]pep.ObligationHandler{
			"log": func(_ context.Context, req authz.Request, o authz.Obligation) error {
				level, _ := o.Params.Get("level")
				fmt.Println(level.Text()+":", req.Subject.ID, req.Action.Name)
				return nil
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close(ctx)
	for _, action := range []string{"order.create", "order.refund"} {
		err := p.Guard(ctx, order(action), func(context.Context) error {
			fmt.Println("done:", action)
			return nil
		})
		var denied *pep.DeniedError
		if errors.As(err, &denied) {
			fmt.Println(denied.Answer.Effect, denied.Answer.Reasons[0].Message)
		}
	}
	// Output:
	// info: li.wei order.create
	// done: order.create
	// REVIEW somebody has to look at refunds
}
