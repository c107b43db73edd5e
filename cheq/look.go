package cheq

import (
	"context"
	"fmt"
	"time"
)

// Standing is what somebody is to a case; the zero Standing is nobody.
type Standing struct {
	Asker    bool // its requester or its caller
	Reviewer bool // whose answer counts, or would while it was open
}

// Concerned reports whether the case is somebody's business.
func (s Standing) Concerned() bool { return s.Asker || s.Reviewer }

// Look returns a case as it is shown, and what the one who looks is to it, or
// ErrNotFound.
func (s *Service) Look(ctx context.Context, id string, who Person) (v View, of Standing, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		c, err := tx.Case(id)
		if err != nil {
			return fmt.Errorf("case %s: %w", id, err)
		}
		now := s.Now().UTC()
		of = c.standing(who, tx, now)
		v, err = view(tx, &c, now)
		return err
	})
	return v, of, err
}

// Standing returns a case as it is stored, and what the person is to it, or
// ErrNotFound.
func (s *Service) Standing(ctx context.Context, id string, who Person) (c Case, of Standing, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		if c, err = tx.Case(id); err != nil {
			return fmt.Errorf("case %s: %w", id, err)
		}
		of = c.standing(who, tx, s.Now().UTC())
		return nil
	})
	return c, of, err
}

func (c *Case) standing(who Person, w World, now time.Time) Standing {
	return Standing{Asker: who == c.Requester || who == c.Caller, Reviewer: c.reviewer(who, w, c.until(now))}
}

// until is the time that a case's steps are looked at: now, or when it ended.
func (c *Case) until(now time.Time) time.Time {
	if c.State.Settled() {
		return c.SettledAt
	}
	return now
}

// maxLooked is how many cases one list looks at for those that concern
// somebody.
const maxLooked = 500

// List returns cases before the given one ("": from the newest), the newest
// first, and before which the next page begins, "" where there is none. With
// concerning it returns only those that are this person's business; a page may
// then be short, even empty, though there are more.
func (s *Service) List(ctx context.Context, f Filter, before string, limit int, concerning *Person) (list []Case, next string, err error) {
	err = s.Store.View(ctx, func(tx Tx) error {
		list, next = nil, ""
		look := limit
		if concerning != nil {
			look = maxLooked
		}
		found, err := tx.Cases(f, before, look+1)
		if err != nil {
			return err
		}
		if len(found) > look {
			found, next = found[:look], found[look-1].ID
		}
		if concerning == nil {
			list = found
			return nil
		}
		world, now := remembered{tx, map[string]known{}, map[Person][]Person{}}, s.Now().UTC()
		for i := range found {
			if !found[i].standing(*concerning, world, now).Concerned() {
				continue
			}
			if len(list) == limit {
				next = list[limit-1].ID
				return nil
			}
			list = append(list, found[i])
		}
		return nil
	})
	return list, next, err
}

// remembered reads each template and each line of a World once.
type remembered struct {
	World
	templates map[string]known
	lines     map[Person][]Person
}

type known struct {
	template *Template
	digest   string
}

func (r remembered) Template(name string) (*Template, string) {
	k, ok := r.templates[name]
	if !ok {
		k.template, k.digest = r.World.Template(name)
		r.templates[name] = k
	}
	return k.template, k.digest
}

func (r remembered) Line(who Person) ([]Person, error) {
	line, ok := r.lines[who]
	if ok {
		return line, nil
	}
	line, err := r.World.Line(who)
	if err == nil {
		r.lines[who] = line
	}
	return line, err
}
