package matrix

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// ours are the tags that a notice is made of.
var ours = strings.NewReplacer("<strong>", "", "</strong>", "", "<br>", "", "<pre><code>", "", "</code></pre>", "")

func TestWhatPeopleWroteIsText(t *testing.T) {
	const hostile = "<img src=x onerror=alert(1)><a href=\"https://matrix.to/#/@li:here\">x</a> @room\nApproved · 已批准\r\u202eevil\u2066\u200b\u0085\u2028end &lt;"
	v := pending(t)
	v.Case.Reason = hostile
	v.Case.Tenant, v.Case.Cause = "acme\nx", hostile
	v.Case.Requester.Name, v.Case.Caller.Name = hostile, hostile
	v.Case.Request.Resource.ID, v.Case.Request.Action.Name = hostile, hostile
	v.Case.Opens[0].Message = cheq.Text{EN: hostile, ZH: hostile}
	v.Case.Votes = []cheq.Vote{{Voter: v.Case.Requester, Reason: hostile, Channel: hostile}}
	v.Title, v.Groups[0].Title = cheq.Text{EN: hostile, ZH: hostile}, cheq.Text{EN: hostile, ZH: hostile}
	for _, state := range []cheq.State{cheq.Pending, cheq.Rejected} {
		v.Case.State = state
		n, err := render(&v)
		if err != nil {
			t.Fatal(err)
		}
		if rest := ours.Replace(n.FormattedBody); strings.ContainsAny(rest, "<>\"") {
			t.Errorf("markup gets through: %s", rest)
		}
		for line := range strings.SplitSeq(n.Body, "\n") {
			if strings.HasPrefix(line, "Approved") {
				t.Errorf("a reason made the line %q", line)
			}
		}
		for _, odd := range "\r\u202e\u2066\u200b\u0085\u2028" {
			if strings.ContainsRune(n.Body, odd) || strings.ContainsRune(n.FormattedBody, odd) {
				t.Errorf("%U gets through", odd)
			}
		}
		written, err := json.Marshal(n)
		if err != nil || !strings.Contains(string(written), `"m.mentions":{}`) {
			t.Errorf("mentions are not empty in %s, %v", written, err)
		}
	}
}

func TestCleanSpellsOutWhatHides(t *testing.T) {
	for text, want := range map[string]string{
		"plain 理由 ✅": "plain 理由 ✅", "a\nb": "a ⏎ b", "a\tb\rc": "a b c", "a\u202eb": `a\u{202e}b`, "\x00": `\u{0}`, "\xff": `\u{fffd}`,
	} {
		if got := clean(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestWhatAYesNewlyAllowsIsShown(t *testing.T) {
	v := pending(t)
	v.Case.BreakGlass = "emergency"
	v.Case.Newly = []cheq.Combination{
		{Before: authz.Review, After: authz.Allow},
		{Values: []cheq.Choice{{Path: "/resource/properties/region", Value: "cn-<b>"}}, Before: authz.Review, After: authz.Deny},
	}
	n, err := render(&v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"EMERGENCY · 紧急: Approval needed", "Newly allowed · 新增放行: 1/2\n", "this request · 本请求: REVIEW → ALLOW\n",
		"/resource/properties/region = \"cn-<b>\": REVIEW → DENY\n", "said twice",
	} {
		if !strings.Contains(n.Body, want) {
			t.Errorf("%q is not shown in\n%s", want, n.Body)
		}
	}
	v.Case.State, v.Case.SettledAt, v.Case.Overdue = cheq.Approved, testNow, true
	if n, err = render(&v); err != nil || !strings.Contains(n.Body, "overdue") || strings.Contains(n.Body, "said twice") {
		t.Errorf("%v\n%s", err, n.Body)
	}
}

func TestAChangeOfPolicyIsShown(t *testing.T) {
	v := pending(t)
	v.Case.Change = &cheq.Change{
		Base: 7, Digest: "sha256:aa", Files: []cheq.ChangedFile{{Path: "platform/a.rego", Added: 1, Removed: 2, Diff: "@@ -1 +1 @@\n-a <b>\n+c"}},
		Tests: cheq.Tests{Passed: 12}, Flips: cheq.Flips{DenyToAllow: 5, Replayed: 40, Days: 7},
	}
	n, err := render(&v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"release 7 → sha256:aa", "5 DENY would be ALLOW", "5 条由拒绝变为允许", "12 held", "platform/a.rego +1 −2", "-a <b>\n+c\n"} {
		if !strings.Contains(n.Body, want) {
			t.Errorf("%q is not shown in\n%s", want, n.Body)
		}
	}
}

func TestLongCasesFitAMessage(t *testing.T) {
	v := pending(t)
	v.Case.Change = &cheq.Change{More: 7, Files: slices.Repeat([]cheq.ChangedFile{{Path: strings.Repeat("很", 100), Diff: strings.Repeat("+\"<理由>\n", 2000)}}, 20)}
	v.Case.Reason = strings.Repeat("\"<理由>\u202e", 500)
	v.Case.Request.Resource.ID = strings.Repeat("\"<&\\", 1<<15)
	for i := range 200 {
		v.Case.Votes = append(v.Case.Votes, cheq.Vote{Voter: cheq.Person{Name: fmt.Sprint("user:", i)}, Reason: strings.Repeat("很", 1000)})
		v.Case.Opens = append(v.Case.Opens, v.Case.Opens[0])
		v.Groups = append(v.Groups, v.Groups[0])
		v.Case.Newly = append(v.Case.Newly, cheq.Combination{Values: []cheq.Choice{{Path: strings.Repeat("/理", 200), Value: "<"}}})
	}
	n, err := render(&v)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := v.Case.Card().Digest()
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Body)+len(n.FormattedBody) > maxNotice || !strings.Contains(n.Body, "Shortened · 已截断") || !strings.Contains(n.Body, digest) {
		t.Errorf("%d + %d bytes:\n%.2000s", len(n.Body), len(n.FormattedBody), n.Body)
	}
}

func FuzzRender(f *testing.F) {
	f.Add("<b>", "\u202e")
	f.Add("a\nb", "\xff\x00")
	f.Fuzz(func(t *testing.T, reason, id string) {
		if len(reason)+len(id) > 400 {
			return // it may be shortened
		}
		v := pending(t)
		v.Case.Reason, v.Case.Request.Resource.ID = reason, id
		n, err := render(&v)
		if err != nil {
			return
		}
		if strings.ContainsAny(ours.Replace(n.FormattedBody), "<>") {
			t.Errorf("markup gets through: %s", n.FormattedBody)
		}
		if lines := strings.Count(n.Body, "\n"); lines != strings.Count(first(t, &v), "\n") {
			t.Errorf("%d lines:\n%s", lines, n.Body)
		}
	})
}

// first is the notice of the same case where nobody wrote anything odd, with as
// much left out.
func first(t *testing.T, v *cheq.View) string {
	plain := *v
	plain.Case.Reason = strings.Repeat("x", len(v.Case.Reason))
	plain.Case.Request.Resource.ID = strings.Repeat("x", len(v.Case.Request.Resource.ID))
	n, err := render(&plain)
	if err != nil {
		t.Fatal(err)
	}
	return n.Body
}
