package approvals_test

import (
	"testing"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pdp"
)

// What is asked again is answered from memory until its case has ended.
func TestAnAskThatIsRepeatedKnowsWhenItsCaseEnded(t *testing.T) {
	n := newNode(t)
	desk := n.desk()
	ask := func() string {
		t.Helper()
		_, o, err := n.pdp.Obstacles(t.Context(), n.pdp.Active(), large(20, "hangzhou"))
		if err != nil {
			t.Fatal(err)
		}
		a, err := desk.Ask(t.Context(), o, pdp.Caller{Name: "service:shop", Tenant: "acme", Asks: &pdp.Asks{}})
		if err != nil || a == nil {
			t.Fatalf("%+v, %v", a, err)
		}
		return a.ID
	}
	if err := n.feed.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := ask()
	if ask() != first {
		t.Error("the same asked again opened another case")
	}
	if _, err := n.Cancel(t.Context(), first, cheq.Person{Tenant: "acme", Name: "user:me"}, ""); err != nil {
		t.Fatal(err)
	}
	if ask() != first {
		t.Error("it is not answered from memory") // nobody told the desk
	}
	desk.Settled(first)
	if ask() == first {
		t.Error("a case that ended is joined")
	}
}
