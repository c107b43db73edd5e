package cheq

import (
	"fmt"

	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// Combination is one request that a yes is about, as it was decided when the
// case opened: now, and with the yes.
type Combination struct {
	// Values are those that the template offers to leave open; none is the
	// request itself.
	Values []Choice     `json:"values,omitempty"`
	Before authz.Effect `json:"before"`
	After  authz.Effect `json:"after"`
}

// Choice is one value of an offered member.
type Choice struct {
	Path  string `json:"path"` // JSON pointer into the request
	Value string `json:"value"`
}

// NewlyAllowed counts the requests that a yes opens: refused or reviewed now,
// allowed with it.
func NewlyAllowed(all []Combination) int {
	n := 0
	for _, c := range all {
		if c.Before != authz.Allow && c.After == authz.Allow {
			n++
		}
	}
	return n
}

// Combinations lists every choice of values for the wanted members of what the
// template offers, at most [MaxCombinations]: a pattern that could not be
// counted out is not offered.
func (t *Template) Combinations(wanted []string) ([][]Choice, error) {
	all := [][]Choice{nil}
	for i, path := range wanted {
		offer := t.offer(path)
		for _, before := range wanted[:i] {
			if before == path {
				return nil, fmt.Errorf("%s is wanted twice", path)
			}
		}
		if offer == nil {
			return nil, fmt.Errorf("the template %s does not offer to leave %s open", t.Name, path)
		}
		var next [][]Choice
		for _, chosen := range all {
			for _, value := range offer.Values {
				next = append(next, append(chosen[:len(chosen):len(chosen)], Choice{path, value}))
			}
		}
		all = next
	}
	return all, nil
}

func (t *Template) offer(path string) *Offer {
	for i := range t.Offers {
		if t.Offers[i].Path == path {
			return &t.Offers[i]
		}
	}
	return nil
}
