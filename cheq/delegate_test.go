package cheq

import (
	"errors"
	"testing"
)

func TestAPlaceIsHandedOnOnceAndCountsOnce(t *testing.T) {
	d := newDesk(t)
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	hand := func(from, to string) error {
		_, err := d.Delegate(t.Context(), c.ID, of(from), of(to), "on leave")
		return err
	}
	for _, step := range []struct {
		from, to string
		want     error
	}{
		{"user:x", "user:y", ErrNotReviewer}, // who has no place
		{"user:s", "user:me", ErrDelegate},   // to the requester
		{"user:s", "user:s", ErrDelegate},
		{"user:s", "user:y", nil},
		{"user:s", "user:z", ErrNotReviewer}, // it has handed its place on
		{"user:y", "user:z", ErrDelegate},    // what was handed on stays there
		{"user:t", "user:y", ErrDelegate},    // nobody collects places
		{"user:n", "user:s", ErrDelegate},
	} {
		if err := hand(step.from, step.to); !errors.Is(err, step.want) {
			t.Errorf("%s to %s: %v, want %v", step.from, step.to, err, step.want)
		}
	}
	if _, err := d.says(c.ID, "user:s", true); !errors.Is(err, ErrNotReviewer) {
		t.Errorf("who handed its place on answers: %v", err)
	}
	for i, voter := range []string{"user:n", "user:y", "user:t"} { // network, and two of security
		after, err := d.says(c.ID, voter, true)
		if err != nil || (after.State == Approved) != (i == 2) {
			t.Fatalf("%s: %v, %s", voter, err, after.State)
		}
	}
	if err := hand("user:n", "user:z"); !errors.Is(err, ErrSettled) {
		t.Errorf("after the end: %v", err)
	}
}

// A reviewer who lost the role takes the place with it.
func TestAPlaceThatIsNoneAnyMoreCountsForNobody(t *testing.T) {
	d := newDesk(t)
	c, _, err := d.Open(t.Context(), ask("sha256:r"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Delegate(t.Context(), c.ID, of("user:s"), of("user:y"), ""); err != nil {
		t.Fatal(err)
	}
	delete(d.store.roles, "user:s")
	if _, err := d.says(c.ID, "user:y", true); !errors.Is(err, ErrNotReviewer) {
		t.Errorf("in the place of who lost the role: %v", err)
	}
}
