package approvals_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/cmd/internal/approvals"
	"github.com/xiezhi-project/xiezhi/pap"
	"github.com/xiezhi-project/xiezhi/pdp"
	"github.com/xiezhi-project/xiezhi/pdp/pip"
)

const byOwners = `title: {en: Something large, zh: 大件}
decide_by: 8h
grant_for: {default: 1h, ceiling: 24h}
all_of:
  - {title: {en: Owners, zh: 所有者}, lookup: {source: cmdb, attribute: resource.owners}, approvals: 2}
`

// lookedUp returns a node whose reviewers a program names: it answers with
// answer's text, or the status where that is one.
func lookedUp(t *testing.T, text string) (n *node, answer *atomic.Value, asked *atomic.Value, source *pip.HTTP) {
	t.Helper()
	answer, asked = &atomic.Value{}, &atomic.Value{}
	answer.Store(text)
	n = newNode(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked.Store(string(body))
		// A transaction that waited for this answer would be in its own way.
		if err := n.store.Update(r.Context(), func(pap.Tx) error { return nil }); err != nil {
			t.Error(err)
		}
		if answer.Load() == "hang" {
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, answer.Load().(string))
	}))
	t.Cleanup(server.Close)
	source, err := pip.NewHTTP(pip.HTTPConfig{
		Name: "cmdb", URL: server.URL, Dialable: func(string) error { return nil }, Timeout: 5 * time.Second, TTL: time.Hour,
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	n.Service = cheq.New(cheq.Config{Now: time.Now, NewID: newID, Store: approvals.NewStore(approvals.Config{
		Store: n.store, Active: n.pdp.Active, Directory: n.people, CatchUp: n.feed.Sync, NewID: newID,
		Sources: map[string]pdp.AttributeSource{"cmdb": source},
	})})
	n.publish(t, map[string]string{"approvals/desk.yaml": byOwners})
	return n, answer, asked, source
}

func TestReviewersAreWhomTheSourceNamesWhenTheyAnswerAndWhenItSettles(t *testing.T) {
	n, answer, asked, source := lookedUp(t, `{"found":true,"value":["user:li","user:wang","user:me"]}`)
	c := n.open(t)
	if _, err := n.vote(t, c, "zhao", true); !errors.Is(err, cheq.ErrNotReviewer) {
		t.Errorf("who is not named: %v", err)
	}
	if want := `{"tenant":"acme","entity":{"type":"desk","id":"1"},"name":"resource.owners"}`; asked.Load() != want {
		t.Errorf("asked %v, want %s", asked.Load(), want)
	}
	if _, err := n.vote(t, c, "me", true); !errors.Is(err, cheq.ErrNotReviewer) {
		t.Errorf("the requester, who is named: %v", err)
	}
	c, err := n.vote(t, c, "li", true)
	if err != nil || c.State != cheq.Pending {
		t.Fatal(c.State, err)
	}
	if _, of, err := n.Look(t.Context(), c.ID, person("wang")); err != nil || !of.Reviewer {
		t.Errorf("wang is %+v, %v", of, err)
	}

	// Who has voted and is named no more counts no more.
	answer.Store(`{"found":true,"value":["user:wang"]}`)
	source.Drop()
	if c, err = n.vote(t, c, "wang", true); err != nil || c.State != cheq.Pending {
		t.Fatalf("the case is %s, %v", c.State, err)
	}
	answer.Store(`{"found":true,"value":["user:wang","user:zhao"]}`)
	source.Drop()
	if c, err = n.vote(t, c, "zhao", true); err != nil || c.State != cheq.Approved {
		t.Errorf("the case is %s, %v", c.State, err)
	}
}

// The second answer comes from a reviewer by role, and is counted in a
// transaction that has to know of the first one's.
func TestATransactionThatWantsToKnowStoresNothing(t *testing.T) {
	n, _, _, source := lookedUp(t, `{"found":true,"value":["user:wang"]}`)
	n.publish(t, map[string]string{"approvals/desk.yaml": "title: {en: A, zh: 甲}\ndecide_by: 8h\ngrant_for: {default: 1h, ceiling: 2h}\nall_of:\n" +
		"  - {title: {en: Admins, zh: 管理员}, role: admin, approvals: 1}\n" +
		"  - {title: {en: Owners, zh: 所有者}, lookup: {source: cmdb, attribute: resource.owners}, approvals: 1}\n"})
	c, err := n.vote(t, n.open(t), "wang", true)
	if err != nil {
		t.Fatal(err)
	}
	source.Drop()
	if c, err = n.vote(t, c, "zhao", true); err != nil || c.State != cheq.Approved || len(c.Votes) != 2 {
		t.Fatalf("the case is %s with %d votes, %v", c.State, len(c.Votes), err)
	}
	v, err := n.View(t.Context(), c.ID)
	if err != nil || len(v.Events) != 4 { // open, two votes, approved
		t.Errorf("%+v, %v", v.Events, err)
	}
}

func TestWhoCannotBeLookedUpIsNoReviewer(t *testing.T) {
	for name, row := range map[string]struct {
		answer, attribute string
	}{
		"nobody":               {`{"found":false}`, "resource.owners"},
		"one name, no list":    {`{"found":true,"value":"user:li"}`, "resource.owners"},
		"something else":       {`{"found":true,"value":["user:li",{"user":"li"}]}`, "resource.owners"},
		"no name":              {`{"found":true,"value":["li"]}`, "resource.owners"},
		"not JSON":             {`user:li`, "resource.owners"},
		"another's":            {`{"found":true,"value":["user:li"],"tenant":"globex"}`, "resource.owners"},
		"a source that hangs":  {"hang", "resource.owners"},
		"an attribute of none": {`{"found":true,"value":["user:li"]}`, "owners"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, answer, _, source := lookedUp(t, row.answer)
			n.publish(t, map[string]string{"approvals/desk.yaml": "title: {en: A, zh: 甲}\ndecide_by: 8h\ngrant_for: {default: 1h, ceiling: 2h}\nall_of:\n" +
				"  - {title: {en: Owners, zh: 所有者}, lookup: {source: cmdb, attribute: " + row.attribute + "}, approvals: 1}\n"})
			c := n.open(t)
			if c, err := n.vote(t, c, "li", true); !errors.Is(err, cheq.ErrNotReviewer) {
				t.Errorf("%s, %v", c.State, err)
			}
			if row.attribute == "owners" {
				return
			}
			answer.Store(`{"found":true,"value":["user:li"]}`)
			source.Drop()
			if c, err := n.vote(t, c, "li", true); err != nil || c.State != cheq.Approved {
				t.Errorf("once it answers: %s, %v", c.State, err)
			}
		})
	}
}
