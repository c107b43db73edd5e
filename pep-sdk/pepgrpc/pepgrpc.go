// Package pepgrpc puts a policy enforcement point before gRPC handlers:
//
//	mapper := pepgrpc.Table(identity, map[string]pepgrpc.Rule{
//		"/shop.Orders/Create": {Action: "order.create", Type: "order"},
//	})
//	grpc.NewServer(grpc.UnaryInterceptor(pepgrpc.Unary(p, mapper, log)),
//		grpc.StreamInterceptor(pepgrpc.Stream(p, mapper, log)))
//
// A handler behind it runs only where the decision is ALLOW and everything it
// asks for was met. All else is PermissionDenied, ResourceExhausted for a
// spent limit, Unavailable where there is no decision; the status carries an
// ErrorInfo of the domain "xiezhi" and the reasons as LocalizedMessages in
// English and Chinese.
//
// A stream is decided when it opens, before its first message has been read:
// it is allowed or not as a whole.
package pepgrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	pep "github.com/xiezhi-project/xiezhi/pep-sdk"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Guard enforces decisions: a [*pep.PEP].
type Guard interface {
	Guard(ctx context.Context, req authz.Request, do func(context.Context) error) error
}

// Mapper says what a call asks to do: the method is its full name, the message
// that of a unary call, nil for a stream. An error or a panic refuses the call.
type Mapper func(ctx context.Context, method string, message any) (authz.Request, error)

// Unary returns the interceptor of unary calls. A handler finds the decision
// in its context ([pep.DecisionFrom]). Log takes why calls were refused; nil:
// nobody.
func Unary(guard Guard, mapper Mapper, log *slog.Logger) grpc.UnaryServerInterceptor {
	e := newEnforcer(guard, mapper, log)
	return func(ctx context.Context, message any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (answer any, err error) {
		err = e.enforce(ctx, info.FullMethod, message, func(ctx context.Context) (err error) {
			answer, err = handler(ctx, message)
			return err
		})
		return answer, err
	}
}

// Stream returns the interceptor of streams, as [Unary] otherwise.
func Stream(guard Guard, mapper Mapper, log *slog.Logger) grpc.StreamServerInterceptor {
	e := newEnforcer(guard, mapper, log)
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return e.enforce(stream.Context(), info.FullMethod, nil, func(ctx context.Context) error {
			return handler(server, decidedStream{stream, ctx})
		})
	}
}

// decidedStream has the decision in its context.
type decidedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s decidedStream) Context() context.Context { return s.ctx }

type enforcer struct {
	guard  Guard
	mapper Mapper
	log    *slog.Logger
}

func newEnforcer(guard Guard, mapper Mapper, log *slog.Logger) enforcer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return enforcer{guard, mapper, log}
}

func (e enforcer) enforce(ctx context.Context, method string, message any, do func(context.Context) error) error {
	ran := false
	req, err := e.mapped(ctx, method, message)
	if err == nil {
		err = e.guard.Guard(ctx, req, func(ctx context.Context) error {
			ran = true
			return do(ctx)
		})
	}
	if err == nil || ran {
		return err
	}
	refusal := pep.RefusalOf(err)
	e.log.InfoContext(ctx, "a call is refused", "method", method,
		"code", refusal.Code, "decision_id", refusal.DecisionID, "error", err)
	return Status(refusal).Err()
}

// mapped keeps a panic of the mapper to this call, and refuses it.
func (e enforcer) mapped(ctx context.Context, method string, message any) (req authz.Request, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.log.ErrorContext(ctx, "a mapper panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: the mapper panicked: %v", pep.ErrUnmapped, p)
		}
	}()
	if req, err = e.mapper(ctx, method, message); err != nil {
		return authz.Request{}, fmt.Errorf("%w: %w", pep.ErrUnmapped, err)
	}
	return req, nil
}

// Domain is the domain of our ErrorInfo; its reason is the code of the refusal.
const Domain = "xiezhi"

// Status is a refusal as gRPC tells it.
func Status(refusal pep.Refusal) *status.Status {
	code := codes.PermissionDenied
	switch refusal.Code {
	case pep.CodeLimited:
		code = codes.ResourceExhausted
	case pep.CodeUnavailable, pep.CodeCanceled:
		code = codes.Unavailable
	}
	info := &errdetails.ErrorInfo{Reason: refusal.Code, Domain: Domain, Metadata: map[string]string{}}
	add := func(name, value string) {
		if value != "" {
			info.Metadata[name] = value
		}
	}
	add("decision_id", refusal.DecisionID)
	add("revision", refusal.Revision)
	if refusal.Stale {
		add("stale", "true")
	}
	if refusal.Approval != nil {
		add("approval_id", refusal.Approval.ID)
		add("approval_status", refusal.Approval.Status)
	}
	details := []protoadapt.MessageV1{info}
	for i, reason := range refusal.Reasons {
		add(fmt.Sprintf("rule_%d", i+1), reason.Policy+"/"+reason.Rule)
		details = append(details, &errdetails.LocalizedMessage{Locale: "en", Message: reason.Message})
		if reason.MessageZH != "" {
			details = append(details, &errdetails.LocalizedMessage{Locale: "zh", Message: reason.MessageZH})
		}
	}
	s := status.New(code, refusal.Title)
	if detailed, err := s.WithDetails(details...); err == nil { // fails only where a text is not UTF-8
		return detailed
	}
	return s
}

// Identity says who calls, and in which tenant, by what the service has
// verified itself. An error refuses the call.
type Identity func(ctx context.Context) (tenant string, subject authz.Entity, err error)

// Certificate identifies clients by the common name of their verified TLS
// certificate, as subjects of the type in the tenant. The server must verify
// client certificates (tls.RequireAndVerifyClientCert).
func Certificate(tenant, subjectType string) Identity {
	return func(ctx context.Context) (string, authz.Entity, error) {
		p, _ := peer.FromContext(ctx)
		if p == nil {
			return "", authz.Entity{}, errors.New("the call has no peer")
		}
		info, _ := p.AuthInfo.(credentials.TLSInfo)
		chains := info.State.VerifiedChains
		if len(chains) == 0 || len(chains[0]) == 0 || chains[0][0].Subject.CommonName == "" {
			return "", authz.Entity{}, errors.New("the client has no verified certificate with a common name")
		}
		return tenant, authz.Entity{Type: subjectType, ID: chains[0][0].Subject.CommonName}, nil
	}
}

// Rule says what the calls of one method do.
type Rule struct {
	Action string
	Type   string // of the resource
	// ID reads the resource's id from the message of a unary call. Nil: the
	// resource is the collection, whose id is its type.
	ID func(message any) (string, error)
	// Add puts properties and context onto the request; nil adds nothing. An
	// error refuses the call.
	Add func(ctx context.Context, message any, req *authz.Request) error
}

// Table maps calls by the full name of their method. One that no rule takes is
// refused.
func Table(identity Identity, rules map[string]Rule) Mapper {
	return func(ctx context.Context, method string, message any) (authz.Request, error) {
		rule, ok := rules[method]
		if !ok {
			return authz.Request{}, fmt.Errorf("no rule takes %s", method)
		}
		if identity == nil {
			return authz.Request{}, errors.New("no identity: nobody says who calls")
		}
		tenant, subject, err := identity(ctx)
		if err != nil {
			return authz.Request{}, err
		}
		req := authz.Request{
			Tenant: tenant, Subject: subject, Action: authz.Action{Name: rule.Action},
			Resource: authz.Entity{Type: rule.Type, ID: rule.Type},
		}
		if rule.ID != nil {
			if req.Resource.ID, err = rule.ID(message); err != nil {
				return authz.Request{}, err
			}
		}
		if rule.Add != nil {
			if err := rule.Add(ctx, message, &req); err != nil {
				return authz.Request{}, err
			}
		}
		return req, nil
	}
}
