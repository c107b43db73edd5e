package cheq

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Text is what people read, in both languages.
type Text struct {
	EN string `yaml:"en" json:"en"`
	ZH string `yaml:"zh" json:"zh"`
}

// Template says who may answer a case and what their yes is good for. It is
// one file approvals/<name>.yaml of the policy repository (X13).
type Template struct {
	Name  string
	Title Text
	Kind  TemplateKind

	// DecideBy is how long a case waits for answers; GrantFor how long a grant
	// lasts unless less was asked for, GrantMost the longest that may be asked
	// for.
	DecideBy, GrantFor, GrantMost time.Duration
	Uses                          int // of a grant; 0: not counted

	// Every group of AllOf says yes, and one of AnyOf where there are any.
	AllOf, AnyOf []Group
	Steps        []Step // in order of After
	// ReviewWithin is when a break-glass case must have been reviewed.
	ReviewWithin time.Duration
	Offers       []Offer
	// BreakGlass names the template by which the same may be asked for in an
	// emergency; "": there is none.
	BreakGlass string
	// Reason says that who asks must say why. Break-glass always asks.
	Reason bool
	// Notify is where cases are shown.
	Notify []Place
}

// TemplateKind is how a template's cases run.
type TemplateKind string

const (
	// Ordinary cases are opened by a REVIEW, or by who asks for a waiver.
	Ordinary TemplateKind = "ordinary"
	// BreakGlass cases are asked for by name in an emergency: they are
	// confirmed twice, broadcast, marked in every audit record, and reviewed
	// afterwards.
	BreakGlass TemplateKind = "break_glass"
)

// Group is some people of whom a number must say yes.
type Group struct {
	Name   string   `json:"name"` // unique within the template
	Title  Text     `json:"title"`
	People []People `json:"people"` // any of these
	// Approvals is how many yes it takes, Denials how many no end it; both at
	// least 1.
	Approvals int `json:"approvals"`
	Denials   int `json:"denials"`
}

// People says who: exactly one of Role, Users and Lookup is set.
type People struct {
	// Role is one of the request's tenant, or "platform:<role>".
	Role string `yaml:"role" json:"role,omitempty"`
	// Users are of the request's tenant, or "platform:<type>:<id>".
	Users  []string `yaml:"users" json:"users,omitempty"`
	Lookup *Lookup  `yaml:"lookup" json:"lookup,omitempty"`
}

// Lookup names the attribute that lists the reviewers, and its source (X13).
type Lookup struct {
	Source    string `yaml:"source" json:"source"`
	Attribute string `yaml:"attribute" json:"attribute"` // "resource.owners"
}

// Step is what happens when a case has waited for so long: a reminder, or more
// people, or others, for one group. Nothing approves by time.
type Step struct {
	After       time.Duration
	Remind      bool
	Group       string // that Add or Switch is about
	Add, Switch *People
}

// Offer is a member of the request whose value a grant may leave open, within
// listed values: what a yes newly allows must be countable.
type Offer struct {
	Path   string   `yaml:"path" json:"path"` // JSON pointer, "/resource/properties/region"
	Values []string `yaml:"values" json:"values"`
}

// Bounds of a template. A grant of a year is a role; a card shows no more
// combinations than a person looks at.
const (
	MaxDecideBy     = 30 * 24 * time.Hour
	MaxGrant        = 90 * 24 * time.Hour
	MaxGroups       = 16
	MaxPlaces       = 16
	MaxCombinations = 200
)

// Feishu's cards can be answered and changed for so long; see docs/feishu.md.
const (
	feishuChannel = "feishu"
	feishuAnswers = 14 * 24 * time.Hour
)

// check refuses a template that could not be answered, or too easily.
func (t *Template) check() error {
	switch {
	case t.Title.EN == "" || t.Title.ZH == "":
		return errors.New("title: want both en and zh: approvers read it")
	case t.Kind != Ordinary && t.Kind != BreakGlass:
		return fmt.Errorf("kind %q: want %s or %s", t.Kind, Ordinary, BreakGlass)
	case t.DecideBy <= 0 || t.DecideBy > MaxDecideBy:
		return fmt.Errorf("decide_by: want a duration above 0 and at most %s", MaxDecideBy)
	case t.GrantFor <= 0 || t.GrantMost > MaxGrant || t.GrantFor > t.GrantMost:
		return fmt.Errorf("grant_for: want 0 < default ≤ ceiling ≤ %s", MaxGrant)
	case t.Uses < 0:
		return errors.New("uses: want 1 or more, or leave it out for no count")
	case len(t.AllOf)+len(t.AnyOf) == 0:
		return errors.New("want at least one group in all_of or any_of: nobody could answer")
	case len(t.AllOf)+len(t.AnyOf) > MaxGroups:
		return fmt.Errorf("at most %d groups", MaxGroups)
	case t.Kind == BreakGlass && t.ReviewWithin <= 0:
		return errors.New("review_within: a break_glass template says by when it must have been reviewed")
	case t.Kind != BreakGlass && t.ReviewWithin != 0:
		return fmt.Errorf("review_within: only for kind %s", BreakGlass)
	case t.Kind == BreakGlass && (t.BreakGlass != "" || len(t.Notify) == 0):
		return fmt.Errorf("notify: a %s template says where everybody sees it, and names no other to break the glass", BreakGlass)
	case len(t.Notify) > MaxPlaces:
		return fmt.Errorf("notify: at most %d places", MaxPlaces)
	}
	for i, place := range t.Notify {
		if place.Channel == feishuChannel && t.DecideBy > feishuAnswers {
			return fmt.Errorf("decide_by: at most %s where notify names %s: its cards take no answer after that", feishuAnswers, feishuChannel)
		}
		if place.Channel == "" || place.To == "" || slices.Contains(t.Notify[:i], place) {
			return fmt.Errorf("notify/%d: want channel and to, and each place once", i)
		}
	}
	if err := t.checkGroups(); err != nil {
		return err
	}
	if err := t.checkSteps(); err != nil {
		return err
	}
	return t.checkOffers()
}

func (t *Template) checkGroups() error {
	var names []string
	for _, list := range [...]struct {
		name   string
		groups []Group
	}{{"all_of", t.AllOf}, {"any_of", t.AnyOf}} {
		for i := range list.groups {
			g := &list.groups[i]
			if err := g.check(names); err != nil {
				return fmt.Errorf("%s/%d: %w", list.name, i, err)
			}
			names = append(names, g.Name)
		}
	}
	return nil
}

// check looks at a group as it is written, with the names of those before.
func (g *Group) check(names []string) error {
	users := g.People[0].Users
	switch {
	case g.Title.EN == "" || g.Title.ZH == "":
		return errors.New("title: want both en and zh")
	case slices.Contains(names, g.Name):
		return fmt.Errorf("two groups have the name %q: give one another by name", g.Name)
	case g.Approvals < 1 || g.Denials < 1:
		return errors.New("approvals, denials: want at least 1")
	case len(users) > 0 && len(users) < g.Approvals:
		return fmt.Errorf("approvals: %d users can never say %d times yes", len(users), g.Approvals)
	}
	return g.People[0].check()
}

func (p *People) check() error {
	ways := 0
	for _, given := range [...]bool{p.Role != "", len(p.Users) > 0, p.Lookup != nil} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("want exactly one of role, users and lookup")
	case p.Lookup != nil && (p.Lookup.Source == "" || p.Lookup.Attribute == ""):
		return errors.New("lookup: want source and attribute")
	}
	for i, user := range p.Users {
		if _, err := ParsePerson("any", user); err != nil {
			return fmt.Errorf("users: %w", err)
		}
		if slices.Contains(p.Users[:i], user) {
			return fmt.Errorf("users: %q is named twice", user)
		}
	}
	return nil
}

func (t *Template) checkSteps() error {
	var before time.Duration
	for i := range t.Steps {
		s := &t.Steps[i]
		people := s.Add
		if people == nil {
			people = s.Switch
		}
		switch {
		case s.After <= before || s.After >= t.DecideBy:
			return fmt.Errorf("escalate/%d: after: want steps in order, each before decide_by", i)
		case s.Remind == (people != nil) || s.Add != nil && s.Switch != nil:
			return fmt.Errorf("escalate/%d: want exactly one of remind, add and switch", i)
		case s.Remind && s.Group != "" || !s.Remind && !t.has(s.Group):
			return fmt.Errorf("escalate/%d: group: want the name of a group to add or switch, and none to remind", i)
		}
		if people != nil {
			if err := people.check(); err != nil {
				return fmt.Errorf("escalate/%d: %w", i, err)
			}
		}
		before = s.After
	}
	return nil
}

func (t *Template) has(group string) bool {
	return slices.ContainsFunc(slices.Concat(t.AllOf, t.AnyOf), func(g Group) bool { return g.Name == group })
}

// After returns the template as it is once a case has waited so long: with
// the people that its steps have added or switched by then.
func (t *Template) After(waited time.Duration) *Template {
	now := *t
	now.AllOf, now.AnyOf = slices.Clone(t.AllOf), slices.Clone(t.AnyOf)
	for _, s := range t.Steps {
		if s.After > waited {
			break
		}
		for _, groups := range [...][]Group{now.AllOf, now.AnyOf} {
			for i := range groups {
				switch g := &groups[i]; {
				case g.Name != s.Group || s.Remind:
				case s.Add != nil:
					g.People = append(slices.Clip(g.People), *s.Add)
				default:
					g.People = []People{*s.Switch}
				}
			}
		}
	}
	return &now
}

func (t *Template) checkOffers() error {
	combinations := 1
	for i, o := range t.Offers {
		if o.Path == "" || o.Path[0] != '/' || len(o.Values) == 0 {
			return fmt.Errorf("offers/%d: want a JSON pointer as path, and values", i)
		}
		if slices.ContainsFunc(t.Offers[:i], func(other Offer) bool { return other.Path == o.Path }) {
			return fmt.Errorf("offers/%d: path %s is given twice", i, o.Path)
		}
		if combinations *= len(o.Values); combinations > MaxCombinations {
			return fmt.Errorf("offers: more than %d combinations, which nobody could look through", MaxCombinations)
		}
	}
	return nil
}
