package cheq

import (
	"fmt"
	"strings"
)

// Person is a subject of the directory: of a tenant, or of the platform. Two
// of the same name in different places are two.
type Person struct {
	Tenant string `json:"tenant"` // "" for the platform's own
	Name   string `json:"name"`   // "user:li.wei"
}

// platformPrefix marks, in what people write, a subject of the platform.
const platformPrefix = "platform:"

// String writes a person as templates do: "user:li.wei" in the tenant at hand,
// "platform:user:root" for the platform's.
func (p Person) String() string {
	if p.Tenant == "" {
		return platformPrefix + p.Name
	}
	return p.Name
}

// ParsePerson reads what templates write. "platform:…" is the platform's
// "user:root" where what follows is a name, so that a tenant's subject of the
// type "platform" can stand for nobody.
func ParsePerson(tenant, text string) (Person, error) {
	if name, ok := strings.CutPrefix(text, platformPrefix); ok {
		tenant, text = "", name
	}
	if typ, id, ok := strings.Cut(text, ":"); !ok || typ == "" || id == "" {
		return Person{}, fmt.Errorf("%q: want <type>:<id>, such as user:li.wei, or platform:<type>:<id>", text)
	}
	return Person{tenant, text}, nil
}

// Named reports whether the people of a case's tenant are listed by name, and
// the person is one of them.
func (p *People) Named(tenant string, who Person) bool {
	for _, text := range p.Users {
		if listed, err := ParsePerson(tenant, text); err == nil && listed == who {
			return true
		}
	}
	return false
}
