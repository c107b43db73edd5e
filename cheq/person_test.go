package cheq

import "testing"

func TestATenantsSubjectIsNeverThePlatforms(t *testing.T) {
	for _, row := range []struct {
		listed string
		who    Person
		want   bool
	}{
		{"user:root", Person{"acme", "user:root"}, true},
		{"user:root", Person{"", "user:root"}, false},
		{"user:root", Person{"globex", "user:root"}, false},
		{"platform:user:root", Person{"", "user:root"}, true},
		{"platform:user:root", Person{"acme", "user:root"}, false},
		{"platform:user:root", Person{"acme", "platform:user:root"}, false}, // of the type "platform"
	} {
		people := People{Users: []string{row.listed}}
		if got := people.Named("acme", row.who); got != row.want {
			t.Errorf("%s lists %#v: %v", row.listed, row.who, got)
		}
	}
}
