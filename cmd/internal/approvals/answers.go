package approvals

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// AnswersConfig is what Answers are handed; every field is required.
type AnswersConfig struct {
	Cases *cheq.Service // on a [Store]
	// May returns nil if a subject holds a right in a tenant now, whatever its
	// tokens; else an error that wraps [pap.ErrForbidden].
	May func(ctx context.Context, who cheq.Person, right, tenant string) error
	// Bind is [pap.Service.BindByCode].
	Bind func(ctx context.Context, channel, platform, code string) (pap.Identity, error)
	// Refused is told of what was refused; it must not wait.
	Refused func(record *authz.AuditRecord)
	Now     func() time.Time
	NewID   func() string
}

// Answers implements [cheq.Answers] and [cheq.Identities]: it finds out who
// somebody in a channel is. It is safe for concurrent use.
type Answers struct {
	config   AnswersConfig
	recorded limiter // refusals, by account and kind
	tries    limiter // of codes, by account
}

var (
	_ cheq.Answers    = (*Answers)(nil)
	_ cheq.Identities = (*Answers)(nil)
)

// NewAnswers returns Answers.
func NewAnswers(c AnswersConfig) *Answers {
	return &Answers{config: c, recorded: limiter{most: 1, within: time.Minute}, tries: limiter{most: 5, within: pap.CodeLife}}
}

// remembered is how long an answer's id is known. Channels refuse what is
// minutes old by its signature.
const remembered = 7 * 24 * time.Hour

// Answer implements [cheq.Answers]. Who the tap is from is found out in the
// transaction that counts it: an account that was unbound, a subject that was
// disabled or a right that was taken a moment before counts no more. A refusal
// that concerns the case alone comes with the case as it is, and so does
// [cheq.ErrConfirm], which is none.
func (a *Answers) Answer(ctx context.Context, t cheq.Tap) (cheq.View, error) {
	var who cheq.Person
	var tenant string
	vote := cheq.Vote{Yes: t.Yes, Reason: t.Reason, Channel: t.Channel, Platform: t.Platform, Message: t.Message, Shown: t.Shown}
	count := func() error {
		_, err := a.config.Cases.VoteBy(ctx, t.Case, vote, func(tx cheq.Tx, c *cheq.Case) (cheq.Person, error) {
			var err error
			tenant = c.Tenant
			who, err = a.voter(ctx, tx, c, &t)
			return who, err
		})
		return err
	}
	err := count()
	for range unsentTries {
		if !errors.Is(err, errUnsent) || !pause(ctx, unsentPause) {
			break
		}
		err = count()
	}
	why := refusal(err)
	if why != "" {
		a.refuse(attempt{t.Channel, t.Platform, who, tenant, "cheq.answer", "cheq:" + t.Case, why}, err)
	}
	if err != nil && !errors.Is(err, cheq.ErrConfirm) && !tells(err) {
		return cheq.View{}, err
	}
	v, failed := a.config.Cases.View(ctx, t.Case)
	return v, errors.Join(err, failed)
}

// voter finds out who gave an answer, and that it was given on the message of
// the case.
func (a *Answers) voter(ctx context.Context, tx cheq.Tx, c *cheq.Case, t *cheq.Tap) (cheq.Person, error) {
	inside, ok := tx.(*transaction)
	if !ok {
		return cheq.Person{}, fmt.Errorf("%T is not of this store", tx)
	}
	now := a.config.Now().UTC()
	seen, err := tx.Seen(t.Channel, t.Event, now, now.Add(-remembered))
	if err != nil {
		return cheq.Person{}, err
	}
	identity, err := pap.IdentityOf(inside.tx, t.Channel, t.Platform)
	if errors.Is(err, pap.ErrNotFound) {
		return cheq.Person{}, fmt.Errorf("%s account %q: %w", t.Channel, t.Platform, cheq.ErrStranger)
	}
	if err != nil {
		return cheq.Person{}, err
	}
	who := cheq.Person{Tenant: identity.Tenant, Name: identity.Subject}
	if seen {
		return who, fmt.Errorf("answer %q of %s: %w", t.Event, t.Channel, cheq.ErrReplay)
	}
	if err := sentFor(tx, c, t); err != nil {
		return who, err
	}
	if _, err := inside.config.Directory.SubjectStanding(who.Tenant, who.Name); err != nil {
		return who, fmt.Errorf("%w: %w", cheq.ErrNotReviewer, err)
	}
	switch err := a.config.May(ctx, who, "cheq.answer", tenantOf(c)); {
	case errors.Is(err, pap.ErrForbidden):
		return who, fmt.Errorf("%w: %w", cheq.ErrNotReviewer, err)
	default:
		return who, err
	}
}

func tenantOf(c *cheq.Case) string {
	if c.Tenant == "" {
		return pap.Platform
	}
	return c.Tenant
}

// errUnsent means that a message is on its way there of which nobody has noted
// yet which it is: who answers within that moment is a program, or quick.
var errUnsent = fmt.Errorf("its id is not noted yet: %w", cheq.ErrMessage)

// How long an answer waits for the message's id.
const (
	unsentTries = 6
	unsentPause = 100 * time.Millisecond
)

// pause reports whether the time passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sentFor returns nil if the message that was answered is the one that was
// sent for the case, in the place where it was sent.
func sentFor(tx cheq.Tx, c *cheq.Case, t *cheq.Tap) error {
	deliveries, err := tx.Deliveries(c.ID)
	if err != nil {
		return err
	}
	for i := range deliveries {
		d := &deliveries[i]
		switch {
		case d.Channel != t.Channel || d.To != t.To:
		case d.Message == "":
			return fmt.Errorf("message %q in %q: %w", t.Message, t.To, errUnsent)
		case d.Message == t.Message:
			return nil
		}
	}
	return fmt.Errorf("message %q in %q: %w", t.Message, t.To, cheq.ErrMessage)
}

// refusals are the errors that refuse an answer, and what audit records call
// them. Any other error is a failure of the server's.
var refusals = []struct {
	is   error
	name string
	// tells says that who is refused may see the case: it was shown to it, by
	// us.
	tells bool
}{
	{cheq.ErrReplay, "replay", false},
	{cheq.ErrStranger, "stranger", false},
	{cheq.ErrMessage, "message", false},
	{cheq.ErrNotReviewer, "not_reviewer", true},
	{cheq.ErrSettled, "settled", true},
	{cheq.ErrShown, "shown", true},
	{cheq.ErrNotFound, "no_case", false},
	{cheq.ErrText, "text", true},
	{cheq.ErrTooMany, "too_many", true},
	{pap.ErrText, "text", false},
	{cheq.ErrCode, "code", false},
}

func refusal(err error) string {
	for _, r := range refusals {
		if errors.Is(err, r.is) {
			return r.name
		}
	}
	return ""
}

func tells(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r.is) {
			return r.tells
		}
	}
	return false
}

// Bind implements [cheq.Identities]. An account has 5 tries while a code lives.
func (a *Answers) Bind(ctx context.Context, channel, platform, code string) (cheq.Person, error) {
	identity, err := pap.Identity{}, error(nil)
	if a.tries.allow(channel+"\x00"+platform, a.config.Now()) {
		identity, err = a.config.Bind(ctx, channel, platform, code)
	} else {
		err = fmt.Errorf("%w: too many tries, wait %s", cheq.ErrCode, pap.CodeLife)
	}
	if err == nil {
		return cheq.Person{Tenant: identity.Tenant, Name: identity.Subject}, nil
	}
	var field *authz.FieldError
	switch {
	case errors.Is(err, cheq.ErrCode):
	case errors.Is(err, pap.ErrNotFound):
		err = cheq.ErrCode
	case errors.Is(err, pap.ErrConflict), errors.As(err, &field), errors.Is(err, pap.ErrText):
		err = fmt.Errorf("%w: %w", cheq.ErrCode, err)
	default:
		return cheq.Person{}, err
	}
	a.refuse(attempt{channel, platform, cheq.Person{}, "", "identity.bind", "identity:" + channel + ":" + platform, "code"}, err)
	return cheq.Person{}, err
}

// attempt is what somebody tried in a channel.
type attempt struct {
	channel, platform string
	who               cheq.Person // nobody where the account is not bound
	tenant            string      // of the case
	action, resource  string
	why               string
}

// refuse tells of an attempt that was refused, once a minute of an account and
// a kind of refusal: nobody fills the audit store by tapping.
func (a *Answers) refuse(t attempt, err error) {
	now := a.config.Now().UTC()
	if !a.recorded.allow(t.channel+"\x00"+t.platform+"\x00"+t.action+"\x00"+t.why, now) {
		return
	}
	by := t.channel + ":" + t.platform
	if t.who != (cheq.Person{}) {
		by = t.who.String()
	}
	body, _ := authz.ObjectValue( // the names differ
		authz.Member{Name: "channel", Value: authz.StringValue(t.channel)},
		authz.Member{Name: "platform", Value: authz.StringValue(t.platform)},
		authz.Member{Name: "kind", Value: authz.StringValue(t.why)},
		authz.Member{Name: "why", Value: authz.StringValue(err.Error())},
	)
	a.config.Refused(&authz.AuditRecord{
		ID: a.config.NewID(), Time: now, Kind: authz.AuditAccess, Tenant: t.tenant, Actor: by,
		Action: t.action, Resource: t.resource, Effect: authz.Deny.String(), Body: body,
	})
}
