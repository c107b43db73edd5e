package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xiezhi-project/xiezhi/pap"
)

// BoundedPEPs is for a store that was opened for three PEPs of each tenant.
func BoundedPEPs(t *testing.T, store Store) {
	left := func() string {
		return strings.ReplaceAll(strings.Join(pepKeys(must[[]pap.PEP](t)(store.PEPs(t.Context(), pap.PEPFilter{}, "", 100))), " "), "/service:shop", "")
	}
	gone := func(id string, since time.Duration) pap.PEP {
		p := pep("acme", id, nil)
		p.Connected, p.SeenAt, p.HonoursUntil = false, now.Add(-since), now.Add(-since)
		return p
	}
	lost := pep("acme", "lost", nil) // its node ended without saying so
	lost.SeenAt, lost.HonoursUntil = now.Add(-time.Hour), now.Add(-time.Hour)
	counts := gone("counts", 2*time.Hour)
	counts.HonoursUntil = now.Add(time.Second)
	put(t, store, lost, gone("a", time.Minute), counts, pep("globex", "g", nil), pep("", "gw", nil))
	same(t, "within the bound", left(), "/gw acme/a acme/counts acme/lost globex/g")
	put(t, store, pep("acme", "b", nil))
	same(t, "who was not seen for the longest time leaves", left(), "/gw acme/a acme/b acme/counts globex/g")
	put(t, store, pep("acme", "c", nil))
	same(t, "and the next", left(), "/gw acme/b acme/c acme/counts globex/g")

	var batch []pap.PEP
	for i := range 5 {
		batch = append(batch, pep("acme", fmt.Sprint("new", i), nil), pep("globex", fmt.Sprint("h", i), nil), pep("", fmt.Sprint("gw", i), nil))
	}
	moved := pep("acme", "b", nil)
	moved.SeenAt, moved.Node = now.Add(time.Second), "moved"
	err := store.PutPEPs(t.Context(), append(batch, moved))
	var many *pap.TooManyPEPsError
	if !errors.As(err, &many) || many.Most != 3 {
		t.Fatalf("beyond the bound: %v", err)
	}
	slices.Sort(many.Keys)
	// Whoever counts grants may leave a second later, and does.
	same(t, "refused", strings.ReplaceAll(strings.Join(many.Keys, " "), "/service:shop", ""), "acme/new0 acme/new1 acme/new2 acme/new3 globex/h0 globex/h1 globex/h2")
	same(t, "the others are stored", left(), "/gw /gw0 /gw1 /gw2 /gw3 /gw4 acme/b acme/c acme/new4 globex/g globex/h3 globex/h4")
	same(t, "what is known stays up to date", must[[]pap.PEP](t)(store.PEPs(t.Context(), pap.PEPFilter{Key: moved.Key}, "", 1))[0].Node, "moved")

	many = nil
	if err := store.PutPEPs(t.Context(), []pap.PEP{pep("acme", "b", nil), pep("acme", "c", nil)}); err != nil {
		t.Errorf("those that are there: %v", err)
	}
}
