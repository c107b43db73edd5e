package feishu

import "github.com/xiezhi-project/xiezhi/cheq"

// maxDiff is how many lines of a file's difference a card shows at most.
const maxDiff = 12

// change shows what a change of policy is about.
func (s *sheet) change(c *cheq.Change) {
	if c == nil {
		return
	}
	s.label("Test cases", "测试用例")
	s.say(c.Tests.Text())
	s.label("Recorded decisions", "决策回放")
	s.say(c.Flips.Text())
	s.label("What changes", "变更内容")
	s.say(textf("Release %d becomes", "版本 %d 变更为", c.Base))
	s.value(c.Digest)
	s.some(len(c.Files), func(i int) {
		f := &c.Files[i]
		s.value(f.String())
		if i > 0 { // of the others the whole case tells
			s.cut = s.cut || f.Diff != "" || f.Cut > 0
			return
		}
		lines, left := f.Lines(min(maxDiff, s.few))
		for _, line := range lines {
			s.value("│ " + line) // no line of a file passes for one of ours
		}
		if left > 0 {
			s.cut = true
			s.say(textf("… and %d more lines", "……另有 %d 行", left))
		}
	})
	if c.More > 0 {
		s.say(textf("… and %d more files", "……另有 %d 个文件", c.More))
	}
}
