package evaltest

import (
	"slices"
	"testing"

	"github.com/xiezhi-project/xiezhi/pdp"
)

// Row is one behaviour as others may ask it, of another decision point say.
type Row struct {
	Name  string
	Files map[string]string // a release by path
	Asks  []*pdp.Input
}

// Rows lists the suite's rows that a language has.
func Rows(t testing.TB, language string) []Row {
	t.Helper()
	l := Language{Name: language}
	var rows []Row
	for _, r := range slices.Concat(findingRows, numberRows, valueRows, errorRows, contributionRows, surroundingRows) {
		if _, without := r.without[language]; without {
			continue
		}
		row := Row{Name: r.name, Files: l.files(r.beside, r.policies...)}
		for _, a := range r.asks {
			row.Asks = append(row.Asks, a.input(t))
		}
		rows = append(rows, row)
	}
	return rows
}
