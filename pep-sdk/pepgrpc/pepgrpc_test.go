package pepgrpc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// service is gRPC's own health service, which has a unary and a streaming
// method.
type service struct {
	grpc_health_v1.UnimplementedHealthServer
	ran chan string // decisions under which handlers ran
}

func (s *service) Check(ctx context.Context, req *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	if req.Service == "own-error" {
		return nil, status.Error(codes.NotFound, "the handler's own")
	}
	answer, _ := pep.DecisionFrom(ctx)
	s.ran <- answer.ID
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func (s *service) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	answer, _ := pep.DecisionFrom(stream.Context())
	s.ran <- answer.ID
	return stream.Send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING})
}

// rig is a gRPC service behind a PEP, and a decision server that answers d, or
// nothing where it is nil.
type rig struct {
	t       *testing.T
	service *service
	client  grpc_health_v1.HealthClient
	asked   chan authz.Request
}

func newRig(t *testing.T, d *authz.Decision, mapper Mapper) *rig {
	t.Helper()
	r := &rig{t: t, service: &service{ran: make(chan string, 10)}, asked: make(chan authz.Request, 10)}
	decisions := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, call *http.Request) {
		body, _ := io.ReadAll(call.Body)
		value, err := authz.Parse(body)
		if err != nil {
			t.Error(err)
		}
		req, err := authz.RequestOf(value)
		if err != nil {
			t.Error(err)
		}
		r.asked <- req
		if d == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(d.AppendJSON(nil))
	}))
	t.Cleanup(decisions.Close)
	p, err := pep.New(t.Context(), pep.Config{
		Server: decisions.URL, Token: func() (string, error) { return "token", nil }, Tenants: []string{"acme"},
		Limits: func(context.Context, authz.Request, []authz.Limit) error { return pep.ErrLimited },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	server := grpc.NewServer(grpc.UnaryInterceptor(Unary(p, mapper, nil)), grpc.StreamInterceptor(Stream(p, mapper, nil)))
	grpc_health_v1.RegisterHealthServer(server, r.service)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := conn.Close()
		server.Stop()
		if err := errors.Join(err, <-served); err != nil {
			t.Error(err)
		}
	})
	r.client = grpc_health_v1.NewHealthClient(conn)
	return r
}

func (r *rig) unary(service string) error {
	_, err := r.client.Check(r.t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
	return err
}

func (r *rig) stream() error {
	stream, err := r.client.Watch(r.t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	return err
}

func li(context.Context) (string, authz.Entity, error) {
	return "acme", authz.Entity{Type: "user", ID: "li.wei"}, nil
}

func rules() map[string]Rule {
	return map[string]Rule{
		grpc_health_v1.Health_Check_FullMethodName: {Action: "health.check", Type: "service", ID: func(message any) (string, error) {
			if name := message.(*grpc_health_v1.HealthCheckRequest).Service; name != "" {
				return name, nil
			}
			return "", errors.New("which service?")
		}},
		grpc_health_v1.Health_Watch_FullMethodName: {Action: "health.watch", Type: "service"},
	}
}

func TestAHandlerRunsOnlyWhereItIsAllowed(t *testing.T) {
	tests := map[string]struct {
		decision *authz.Decision
		want     codes.Code
		reason   string
	}{
		"allowed":               {&authz.Decision{ID: "d1", Effect: authz.Allow}, codes.OK, ""},
		"denied":                {&authz.Decision{ID: "d1"}, codes.PermissionDenied, pep.CodeDenied},
		"review":                {&authz.Decision{ID: "d1", Effect: authz.Review, Approval: &authz.Approval{ID: "cheq-1"}}, codes.PermissionDenied, pep.CodeReview},
		"an unknown obligation": {&authz.Decision{ID: "d1", Effect: authz.Allow, Obligations: []authz.Obligation{{ID: "x", Must: true}}}, codes.PermissionDenied, pep.CodeUnmet},
		"a spent limit":         {&authz.Decision{ID: "d1", Effect: authz.Allow, Limits: []authz.Limit{{Key: "k"}}}, codes.ResourceExhausted, pep.CodeLimited},
		"no decision":           {nil, codes.Unavailable, pep.CodeUnavailable},
	}
	for name, tt := range tests {
		for kind, call := range map[string]func(*rig) error{
			"unary":  func(r *rig) error { return r.unary("orders") },
			"stream": (*rig).stream,
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				r := newRig(t, tt.decision, Table(li, rules()))
				err := call(r)
				if status.Code(err) != tt.want || infoOf(err).GetReason() != tt.reason {
					t.Errorf("%v (%v), want %s %s", err, infoOf(err), tt.want, tt.reason)
				}
				if (len(r.service.ran) == 1) != (tt.want == codes.OK) {
					t.Errorf("the handler ran %d times", len(r.service.ran))
				}
				if tt.want == codes.OK && <-r.service.ran != "d1" {
					t.Error("the handler had no decision")
				}
			})
		}
	}
}

func infoOf(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

func TestAStatusHasReasonsInBothLanguagesAndTheApproval(t *testing.T) {
	d := &authz.Decision{ID: "d1", Effect: authz.Review, Approval: &authz.Approval{ID: "cheq-1", Status: "PENDING"},
		Revision: authz.Revision{Release: 4}, Stale: true,
		Reasons: []authz.Reason{{Policy: "p", Rule: "ask", Effect: authz.Review, Message: "Ask.", MessageZH: "请问。"}}}
	err := newRig(t, d, Table(li, rules())).unary("orders")
	var texts []string
	for _, detail := range status.Convert(err).Details() {
		if m, ok := detail.(*errdetails.LocalizedMessage); ok {
			texts = append(texts, m.Locale+" "+m.Message)
		}
	}
	if !slices.Equal(texts, []string{"en Ask.", "zh 请问。"}) {
		t.Errorf("texts %q", texts)
	}
	info := infoOf(err)
	for name, want := range map[string]string{"decision_id": "d1", "approval_id": "cheq-1", "rule_1": "p/ask", "revision": "r4.g0", "stale": "true"} {
		if info.Metadata[name] != want {
			t.Errorf("%s is %q, want %q", name, info.Metadata[name], want)
		}
	}
}

func TestTheHandlersOwnErrorIsItsOwn(t *testing.T) {
	r := newRig(t, &authz.Decision{Effect: authz.Allow}, Table(li, rules()))
	if err := r.unary("own-error"); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
}

func TestAMapperThatFailsOrPanicsRefuses(t *testing.T) {
	for name, mapper := range map[string]Mapper{
		"fails":          func(context.Context, string, any) (authz.Request, error) { return authz.Request{}, errors.New("cause") },
		"panics":         func(context.Context, string, any) (authz.Request, error) { panic("cause") },
		"no rule":        Table(li, nil),
		"no identity":    Table(nil, rules()),
		"no certificate": Table(Certificate("acme", "service"), rules()),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, &authz.Decision{Effect: authz.Allow}, mapper)
			for _, err := range []error{r.unary("orders"), r.stream()} {
				if status.Code(err) != codes.PermissionDenied || infoOf(err).GetReason() != pep.CodeUnmapped {
					t.Error(err)
				}
			}
			if len(r.service.ran) > 0 || len(r.asked) > 0 {
				t.Error("a handler ran, or the server was asked")
			}
		})
	}
}

func TestTheIDComesFromTheMessage(t *testing.T) {
	r := newRig(t, &authz.Decision{Effect: authz.Allow}, Table(li, rules()))
	if err := r.unary("orders"); err != nil {
		t.Fatal(err)
	}
	if req := <-r.asked; req.Resource.ID != "orders" || req.Action.Name != "health.check" || req.Subject.ID != "li.wei" {
		t.Errorf("%+v", req)
	}
	if err := r.unary(""); infoOf(err).GetReason() != pep.CodeUnmapped {
		t.Errorf("without an id: %v", err)
	}
}
