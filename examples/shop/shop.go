package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
	"github.com/xiezhi-project/xiezhi/pep-sdk/httpmw"
)

// sessions stand in for a login: who has such a token was logged in by the
// shop. Nothing else that a client says is taken for who it is.
var sessions = map[string]string{"session-li.wei": "li.wei", "session-zhang.min": "zhang.min"}

const maxBody = 1 << 20

// shop takes orders.
type shop struct {
	pep    *pep.PEP
	tenant string

	mu     sync.Mutex
	orders []order
}

// order is one machine that was sold.
type order struct {
	ID         string          `json:"id"`
	Properties json.RawMessage `json:"properties"`
	Buyer      string          `json:"buyer"`
	DecisionID string          `json:"decision_id"`
	Encrypted  bool            `json:"encrypted"` // the policies asked for it
}

// newShop puts the PEP before the orders: these are the three lines.
func newShop(p *pep.PEP, tenant string, log *slog.Logger) (http.Handler, error) {
	s := &shop{pep: p, tenant: tenant}
	table, err := httpmw.NewTable(s.identify, map[string]httpmw.Rule{
		"POST /orders": {Action: "ecs.instance.create", Type: "ecs.instance", Add: addOrder},
	})
	if err != nil {
		return nil, err
	}
	guard := httpmw.New(p, table.Map, log)

	mux := http.NewServeMux()
	mux.Handle("POST /orders", guard(http.HandlerFunc(s.take)))
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("POST /decide", s.decide)
	return mux, nil
}

// obligations are what the shop can do about them; one that is not here denies.
func obligations(log *slog.Logger) map[string]pep.ObligationHandler {
	return map[string]pep.ObligationHandler{
		// The order itself is encrypted where the decision says so; see take.
		"encrypt_at_rest": func(context.Context, authz.Request, authz.Obligation) error { return nil },
		"audit_trail": func(ctx context.Context, req authz.Request, _ authz.Obligation) error {
			log.InfoContext(ctx, "audit trail", "subject", req.Subject.ID, "action", req.Action.Name, "resource", req.Resource.ID)
			return nil
		},
	}
}

func (s *shop) identify(r *http.Request) (string, authz.Entity, error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	name, ok := sessions[token]
	if !ok {
		return "", authz.Entity{}, errors.New("nobody is logged in: send Authorization: Bearer session-li.wei")
	}
	return s.tenant, authz.Entity{Type: "user", ID: name}, nil
}

// addOrder reads what is ordered from the body, and leaves the body for take.
func addOrder(r *http.Request, req *authz.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	if len(body) > maxBody {
		return fmt.Errorf("the order is over %d bytes", maxBody)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	value, err := authz.Parse(body)
	if err != nil {
		return err
	}
	id, _ := value.Get("id")
	req.Resource.ID = id.Text()
	req.Resource.Properties, _ = value.Get("properties")
	return nil
}

// take runs only where the order is allowed.
func (s *shop) take(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, _ := pep.DecisionFrom(r.Context()) // it is there: this handler stands behind the guard
	_, buyer, _ := s.identify(r)
	o.Buyer, o.DecisionID = buyer.ID, answer.ID
	for _, obligation := range answer.Obligations {
		o.Encrypted = o.Encrypted || obligation.ID == "encrypt_at_rest"
	}
	s.mu.Lock()
	s.orders = append(s.orders, o)
	s.mu.Unlock()
	reply(w, http.StatusCreated, o)
}

// status tells what the PEP knows of itself.
func (s *shop) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.pep.Status())
}

// decide decides on any request, and enforces nothing: for trying things out,
// and for tests.
func (s *shop) decide(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	value, err := authz.Parse(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	req, err := authz.RequestOf(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := s.pep.Decide(r.Context(), req)
	if err != nil {
		reply(w, http.StatusServiceUnavailable, map[string]string{"effect": "DENY", "error": err.Error()})
		return
	}
	reply(w, http.StatusOK, answer)
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
