package httpd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pap"
)

// caseJSON is a case as lists and changes answer with it. People are written
// as templates write them: "user:li.wei" of the case's tenant,
// "platform:user:root" of the platform.
type caseJSON struct {
	ID        string          `json:"id"`
	Tenant    string          `json:"tenant"`
	State     cheq.State      `json:"state"`
	Requester string          `json:"requester"`
	Caller    string          `json:"caller"`
	Reason    string          `json:"reason,omitempty"`
	Request   json.RawMessage `json:"request"`
	Opens     []cheq.Opening  `json:"opens"`
	OpenedAt  time.Time       `json:"opened_at"`
	DecideBy  time.Time       `json:"decide_by"`
	GrantFor  string          `json:"grant_for"`
	Uses      int             `json:"uses,omitempty"`
	Extends   string          `json:"extends,omitempty"`
	Shown     string          `json:"shown"`
	Votes     []voteJSON      `json:"votes"`
	SettledAt time.Time       `json:"settled_at,omitzero"`
	Cause     string          `json:"cause,omitempty"`
	Grant     string          `json:"grant,omitempty"`
	GrantEnd  time.Time       `json:"grant_end,omitzero"`
	Yield     cheq.Yield      `json:"yield,omitempty"`
	// Newly is every request that a yes is about.
	Newly []cheq.Combination `json:"newly,omitempty"`
	// Of an emergency.
	BreakGlass string      `json:"break_glass,omitempty"`
	ReviewBy   time.Time   `json:"review_by,omitzero"`
	Overdue    bool        `json:"overdue,omitempty"`
	Reviewed   *reviewJSON `json:"reviewed,omitempty"`
}

type reviewJSON struct {
	By   string    `json:"by"`
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

type voteJSON struct {
	Voter   string    `json:"voter"`
	Answer  string    `json:"answer"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at"`
	Channel string    `json:"channel"`
	Shown   string    `json:"shown"`
}

func caseOf(k *cheq.Case) caseJSON {
	j := caseJSON{
		ID: k.ID, Tenant: k.Tenant, State: k.State, Requester: k.Requester.String(), Caller: k.Caller.String(), Reason: k.Reason,
		Request: k.Request.AppendJSON(nil), Opens: k.Opens, OpenedAt: k.OpenedAt.UTC(), DecideBy: k.DecideBy.UTC(),
		GrantFor: k.GrantFor.String(), Uses: k.Uses, Extends: k.Extends, Shown: k.Shown, Votes: make([]voteJSON, len(k.Votes)),
		Cause: k.Cause, Grant: k.Grant, Yield: k.Yield, Newly: k.Newly, BreakGlass: k.BreakGlass, Overdue: k.Overdue,
	}
	if !k.ReviewBy.IsZero() {
		j.ReviewBy = k.ReviewBy.UTC()
	}
	if k.Reviewed != nil {
		j.Reviewed = &reviewJSON{k.Reviewed.By.String(), k.Reviewed.At.UTC(), k.Reviewed.Text}
	}
	if !k.SettledAt.IsZero() {
		j.SettledAt = k.SettledAt.UTC()
	}
	if !k.GrantEnd.IsZero() {
		j.GrantEnd = k.GrantEnd.UTC()
	}
	for i := range k.Votes {
		v := &k.Votes[i]
		answer := "reject"
		if v.Yes {
			answer = "approve"
		}
		j.Votes[i] = voteJSON{v.Voter.String(), answer, v.Reason, v.At.UTC(), v.Channel, v.Shown}
	}
	return j
}

// caseView is a case as somebody reads it who may have to answer.
type caseView struct {
	caseJSON
	Title    cheq.Text         `json:"title"`
	Groups   []cheq.GroupState `json:"groups"`
	Timeline []eventJSON       `json:"timeline"`
	// Card is what a yes is about; its digest is Shown.
	Card cheq.Card `json:"card"`
}

type eventJSON struct {
	At     time.Time `json:"at"`
	Actor  string    `json:"actor,omitempty"`
	Action string    `json:"action"`
	Detail string    `json:"detail,omitempty"`
}

func viewOf(v *cheq.View) caseView {
	j := caseView{caseJSON: caseOf(&v.Case), Title: v.Title, Groups: v.Groups, Timeline: make([]eventJSON, len(v.Events)), Card: v.Case.Card()}
	if j.Groups == nil {
		j.Groups = []cheq.GroupState{}
	}
	for i, e := range v.Events {
		j.Timeline[i] = eventJSON{At: e.At.UTC(), Action: e.Action, Detail: e.Detail}
		if e.Actor != (cheq.Person{}) {
			j.Timeline[i].Actor = e.Actor.String()
		}
	}
	return j
}

// states that a list may be asked for.
var caseStates = []cheq.State{"", cheq.Pending, cheq.Approved, cheq.Rejected, cheq.Expired, cheq.Cancelled}

func (c *call) listCases() error {
	a, err := c.cases()
	if err != nil {
		return err
	}
	before, limit, err := c.page()
	if err != nil {
		return err
	}
	filter := cheq.Filter{State: cheq.State(c.query("state"))}
	if !slices.Contains(caseStates, filter.State) {
		return &parameterError{Name: "state", Detail: fmt.Sprintf("want one of %s", strings.Trim(fmt.Sprint(caseStates[1:]), "[]"))}
	}
	if filter.Tenant, err = c.tenant(c.query("tenant")); err != nil {
		return err
	}
	if filter.Requester, err = personOf(filter.Tenant, c.query("requester")); err != nil {
		return err
	}
	var concerning *cheq.Person
	switch err := c.allow(rightReadCase, filter.Tenant); {
	case errors.Is(err, pap.ErrForbidden):
		if err := c.allowOwn(rightReadCase, filter.Tenant); err != nil {
			return err
		}
		me := c.person()
		concerning = &me
	case err != nil:
		return err
	}
	list, next, err := a.Cases.List(c.ctx, filter, before, limit, concerning)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, pageOf(pap.Page[cheq.Case]{Items: list, Next: next}, func(k cheq.Case) caseJSON { return caseOf(&k) }))
}

// personOf reads a query parameter; "" is nobody.
func personOf(tenant, text string) (*cheq.Person, error) {
	if text == "" {
		return nil, nil
	}
	p := cheq.Person{Tenant: tenant, Name: text}
	if name, ok := strings.CutPrefix(text, pap.Platform+":"); ok {
		p = cheq.Person{Name: name}
	}
	if _, _, err := pap.SplitSubject(p.Name); err != nil {
		return nil, &parameterError{Name: "requester", Detail: "want <type>:<id>, such as user:li.wei"}
	}
	if p.Tenant == "" && p.Name == text {
		return nil, &parameterError{Name: "requester", Detail: "also name the tenant, or write platform:<type>:<id>"}
	}
	return &p, nil
}

func (c *call) readCase() error {
	wait, err := c.queryDuration("wait", 0, maxWait)
	if err != nil {
		return err
	}
	v, err := c.look()
	if err != nil {
		return err
	}
	if wait > 0 && !v.Case.State.Settled() {
		end, err := c.asking.begin(c.caller.TokenID, c.caller.Tenant)
		if err != nil {
			return err
		}
		defer end()
		if _, err := c.settled(v.Case.ID, wait); err != nil {
			return err
		}
		if v, err = c.look(); err != nil { // by then the caller may have lost the right
			return err
		}
	}
	return c.answer(http.StatusOK, viewOf(&v))
}

// look reads the case that the path names, where the caller may.
func (c *call) look() (cheq.View, error) {
	a, err := c.cases()
	if err != nil {
		return cheq.View{}, err
	}
	id, err := c.param("id")
	if err != nil {
		return cheq.View{}, err
	}
	v, standing, err := a.Cases.Look(c.ctx, id, c.person())
	if err == nil {
		err = c.mayCase(&v.Case, rightReadCase, standing.Concerned())
	}
	return v, err
}
