package cheq

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// maxEvents is how much of a timeline is shown.
const maxEvents = 1000

// View is a case as channels show it, as of now.
func (s *Service) View(ctx context.Context, id string) (View, error) {
	var v View
	err := s.Store.View(ctx, func(tx Tx) error {
		c, err := tx.Case(id)
		if err != nil {
			return fmt.Errorf("case %s: %w", id, err)
		}
		v, err = view(tx, &c, s.Now().UTC())
		return err
	})
	return v, err
}

// view shows a case by its templates as they are now, or were when it settled.
// A case whose templates are others by now has no groups.
func view(tx Tx, c *Case, now time.Time) (View, error) {
	v := View{Case: *c, Title: title(tx, c)}
	if c.State.Settled() {
		now = c.SettledAt
	}
	templates, _ := c.templates(tx, now)
	for _, t := range templates {
		for i, g := range slices.Concat(t.AllOf, t.AnyOf) {
			v.Groups = append(v.Groups, c.group(tx, &g, i >= len(t.AllOf)))
		}
	}
	var err error
	v.Events, err = tx.Timeline(c.ID, maxEvents)
	return v, err
}

// title is that of the first template, or its name where it is gone.
func title(w World, c *Case) Text {
	if len(c.Opens) == 0 {
		return Text{}
	}
	name := c.Opens[0].Template
	if t, _ := w.Template(name); t != nil {
		return t.Title
	}
	return Text{EN: name, ZH: name}
}

// group counts who of a group has answered.
func (c *Case) group(w World, g *Group, any bool) GroupState {
	state := GroupState{Title: g.Title, Approvals: g.Approvals, Denials: g.Denials, Any: any}
	for _, a := range c.answers() {
		switch {
		case !c.mayAnswer(a.Voter, g, w):
		case a.Yes:
			state.Yes++
		default:
			state.No++
		}
	}
	return state
}
