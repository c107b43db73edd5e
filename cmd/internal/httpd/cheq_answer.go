package httpd

import (
	"net/http"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// trial is what somebody tries to do to a case; where it is refused, the audit
// tells of it.
func (c *call) trial() (*Approvals, cheq.Case, cheq.Standing, error) {
	a, err := c.cases()
	if err != nil {
		return nil, cheq.Case{}, cheq.Standing{}, err
	}
	id, err := c.param("id")
	if err != nil {
		return nil, cheq.Case{}, cheq.Standing{}, err
	}
	c.tried = "cheq:" + id
	k, standing, err := a.Cases.Standing(c.ctx, id, c.person())
	return a, k, standing, err
}

// changedCase answers a change with the case and the revision that includes
// what it did. The change is made: that the revision cannot be read is not the
// caller's.
func (c *call) changedCase(k *cheq.Case) error {
	revision, err := newestRevision(c.ctx, c.config.Store)
	if err != nil {
		c.config.Log.Warn("a case changed, and the revision cannot be read", "case", k.ID, "error", err)
		return c.answer(http.StatusOK, caseOf(k))
	}
	return c.changed(http.StatusOK, caseOf(k), revision, nil)
}

// caseAnswer is a vote: on what was shown, by the digest of the card.
type caseAnswer struct {
	Shown  string `json:"shown"`
	Reason string `json:"reason"`
}

// doTo is one step on one case: the body is read, the case looked at, and the
// caller asked for the right, as for what is its own business where own says
// so. do changes the case, or refuses.
func doTo[B any](c *call, right string, own func(cheq.Standing) bool, do func(a *Approvals, k *cheq.Case, body B) (cheq.Case, error)) error {
	body, err := decode[B](c)
	if err != nil {
		return err
	}
	a, k, standing, err := c.trial()
	if err != nil {
		return err
	}
	if err := c.mayCase(&k, right, own(standing)); err != nil {
		return err
	}
	if k, err = do(a, &k, body); err != nil {
		return err
	}
	return c.changedCase(&k)
}

// asker is whose own business answering a case would be.
func asker(s cheq.Standing) bool { return s.Asker }

// answerCase counts the caller's answer. Whether it counts is the template's to
// say; nobody answers for oneself.
func (c *call) answerCase(yes bool) error {
	return doTo(c, rightAnswerCase, asker, func(a *Approvals, k *cheq.Case, body caseAnswer) (cheq.Case, error) {
		if body.Shown == "" {
			return *k, &authz.FieldError{Path: "/shown", Detail: "required: the digest of the card that was looked at, as reading the case gives it"}
		}
		return a.Cases.Vote(c.ctx, k.ID, cheq.Vote{Voter: c.person(), Yes: yes, Reason: body.Reason, Channel: channelAPI, Shown: body.Shown})
	})
}

type caseDelegation struct {
	To     string `json:"to"`
	Reason string `json:"reason"`
}

// delegateCase hands the caller's place to somebody of the case's tenant, or of
// the platform.
func (c *call) delegateCase() error {
	return doTo(c, rightAnswerCase, asker, func(a *Approvals, k *cheq.Case, body caseDelegation) (cheq.Case, error) {
		to, err := cheq.ParsePerson(k.Tenant, body.To)
		if err != nil {
			return *k, &authz.FieldError{Path: "/to", Detail: err.Error()}
		}
		return a.Cases.Delegate(c.ctx, k.ID, c.person(), to, body.Reason)
	})
}

// channelAPI is what votes say that were given here.
const channelAPI = "api"

type caseReason struct {
	Reason string `json:"reason"`
}

func (c *call) cancelCase() error {
	return doTo(c, rightRevokeCase, cheq.Standing.Concerned, func(a *Approvals, k *cheq.Case, body caseReason) (cheq.Case, error) {
		return a.Cases.Cancel(c.ctx, k.ID, c.person(), body.Reason)
	})
}

// revokedCase says who may count the grant yet.
type revokedCase struct {
	caseJSON
	Unacknowledged []pap.Missing `json:"unacknowledged"`
	More           int           `json:"unacknowledged_more,omitempty"`
}

func (c *call) revokeCase() error {
	body, err := decode[caseReason](c)
	if err != nil {
		return err
	}
	wait, err := c.queryDuration("wait", endWait, maxEndWait)
	if err != nil {
		return err
	}
	a, k, standing, err := c.trial()
	if err != nil {
		return err
	}
	if err := c.mayCase(&k, rightRevokeCase, standing.Concerned()); err != nil {
		return err
	}
	if k, err = a.Cases.Revoke(c.ctx, k.ID, c.person(), body.Reason); err != nil {
		return err
	}
	if wait > 0 {
		if end, busy := c.waits.begin(c.caller.TokenID, c.caller.Tenant); busy != nil {
			wait = 0 // closing is never refused
		} else {
			defer end()
		}
	}
	ended, revision, err := c.config.PAP.EndedGrant(c.ctx, c.actor(), k.Grant, wait)
	answer := revokedCase{caseOf(&k), ended.Unacknowledged, ended.More}
	if err != nil && revision.IsZero() {
		c.config.Log.Warn("a grant is revoked, and who may count it yet cannot be read", "case", k.ID, "error", err)
		return c.answer(http.StatusOK, answer)
	}
	return c.changed(http.StatusOK, answer, revision, err)
}

type caseExtension struct {
	GrantFor string `json:"grant_for"`
	Reason   string `json:"reason"`
}

// extendCase asks the same people again, before the grant ends.
func (c *call) extendCase() error {
	body, err := decode[caseExtension](c)
	if err != nil {
		return err
	}
	asks, err := asksFor(body.Reason, body.GrantFor)
	if err != nil {
		return err
	}
	a, k, _, err := c.trial()
	if err != nil {
		return err
	}
	right := rightOpenOnBehalf
	if k.Requester == c.person() {
		right = rightOpen
	}
	if err := c.mayCase(&k, right, false); err != nil {
		return err
	}
	active := c.config.PDP.Active()
	if active == nil {
		return pdp.ErrNotReady
	}
	digest, err := active.RequestDigest(k.Request, c.config.Now())
	if err != nil {
		return err
	}
	extension, joined, err := a.Cases.Extend(c.ctx, k.ID, cheq.Extension{
		Caller: c.person(), Reason: asks.Reason, GrantFor: asks.GrantFor, Digest: digest.String(),
	})
	if err != nil {
		return err
	}
	return c.opened(&extension, joined)
}

type caseComment struct {
	Text string `json:"text"`
}

func (c *call) commentCase() error {
	body, err := decode[caseComment](c)
	if err != nil {
		return err
	}
	a, k, standing, err := c.trial()
	if err != nil {
		return err
	}
	if err := c.mayCase(&k, rightCommentCase, standing.Concerned()); err != nil {
		return err
	}
	if err := a.Cases.Comment(c.ctx, k.ID, c.person(), body.Text); err != nil {
		return err
	}
	return c.answer(http.StatusOK, caseOf(&k))
}

// reviewCase looks back at an emergency.
func (c *call) reviewCase() error {
	return doTo(c, rightAnswerCase, asker, func(a *Approvals, k *cheq.Case, body caseComment) (cheq.Case, error) {
		return a.Cases.Review(c.ctx, k.ID, c.person(), body.Text)
	})
}
