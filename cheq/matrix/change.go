package matrix

import (
	"fmt"
	"strings"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// change adds what a change of policy is about.
func (p *page) change(c *cheq.Change) {
	if c == nil {
		return
	}
	p.line("Changes · 变更", fmt.Sprintf("release %d → %s", c.Base, clean(c.Digest)))
	p.line("Recorded decisions · 决策回放", both(c.Flips.Text()))
	p.line("Test cases · 测试用例", both(c.Tests.Text()))
	for i := range c.Files {
		f := &c.Files[i]
		p.list("–", i, clean(f.String()))
		lines, left := f.Lines(p.lines / 2)
		if i > 0 || len(lines) == 0 { // of the others the whole case tells
			p.short = p.short || len(lines) > 0 || left > 0
			continue
		}
		if left > 0 {
			p.short = true
			lines = append(lines, fmt.Sprintf("… %d", left))
		}
		p.code("Difference · 差异", strings.Join(lines, "\n"))
	}
	if c.More > 0 {
		p.line("–", fmt.Sprintf("… %d", c.More))
	}
}
