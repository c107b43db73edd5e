package feishu

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// The elements that our cards are made of, and the members that each may have:
// the platform refuses others.
var known = map[string][]string{
	"plain_text": {"tag", "content", "i18n_content", "text_size", "text_color"},
	"div":        {"tag", "text"},
	"form":       {"tag", "name", "elements"},
	"input":      {"tag", "name", "input_type", "rows", "max_length", "width", "placeholder"},
	"column_set": {"tag", "columns"},
	"column":     {"tag", "width", "elements"},
	"button":     {"tag", "name", "type", "form_action_type", "text", "confirm", "behaviors"},
}

// shown is a card taken apart.
type shown struct {
	texts    []map[string]any // plain_text elements
	buttons  []map[string]any
	elements int
	data     map[string]any
}

// look renders a view, and checks what holds for every card.
func look(t interface{ Fatalf(string, ...any) }, v cheq.View) shown {
	card, err := render("chat:oc_e4d2605ca917e695f54f11aaf56", v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	request, err := json.Marshal(message{To: "oc_e4d2605ca917e695f54f11aaf56", Type: "interactive", Content: string(card), UUID: uuid("k")})
	if err != nil || len(request) >= 30_000 {
		t.Fatalf("a request of %d bytes: %v", len(request), err)
	}
	var s shown
	if err := json.Unmarshal(card, &s.data); err != nil {
		t.Fatalf("%v", err)
	}
	var walk func(any)
	walk = func(part any) {
		switch part := part.(type) {
		case []any:
			for _, p := range part {
				walk(p)
			}
		case map[string]any:
			if tag, ok := part["tag"].(string); ok {
				s.elements++
				for _, name := range slices.Sorted(maps.Keys(part)) {
					if !slices.Contains(known[tag], name) {
						t.Fatalf("%s has the member %s", tag, name)
					}
				}
				switch tag {
				case "plain_text":
					s.texts = append(s.texts, part)
				case "button":
					s.buttons = append(s.buttons, part)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(part)) {
				walk(part[name])
			}
		}
	}
	walk(s.data)
	config := s.data["config"].(map[string]any)
	if s.data["schema"] != "2.0" || config["update_multi"] != true || config["enable_forward"] != false || s.elements > 200 {
		t.Fatalf("schema %v, config %v, %d elements", s.data["schema"], config, s.elements)
	}
	return s
}

// says lists what is read in one language, a text a line.
func (s *shown) says(language string) string {
	var all []string
	for _, text := range s.texts {
		say := text["content"].(string)
		if i18n, ok := text["i18n_content"].(map[string]any); ok {
			say = i18n[language].(string)
		}
		all = append(all, say)
	}
	return strings.Join(all, "\n")
}

func TestAPendingCardSaysWhatAYesIsAbout(t *testing.T) {
	v := sample()
	v.Case.Newly = []cheq.Combination{{Before: authz.Review, After: authz.Allow}}
	card := look(t, v)
	for language, wants := range map[string][]string{
		"en_us": {
			"Public address", "Waiting for approval", "user:li.wei", "platform:service:portal", "the shop opens on Monday", "acme",
			"ecs.instance.create", "ecs.instance web-1", "cpu = 2", `region = "cn-hangzhou"`,
			"Satisfies the review of platform/network/public_ingress", "reachable from anywhere", "REVIEW → ALLOW",
			"1 h 30 min from the approval", "2026-11-25 12:00 UTC", "Security: 1 of 2 yes, 0 of 1 no", "Case cheq-1", "Approve", "Reject",
		},
		"zh_cn": {
			"公网地址", "等待审批", "user:li.wei", "the shop opens on Monday", "任何人可访问", "自批准起 1 小时 30 分钟",
			"2026-11-25 20:00 UTC+8", "安全：同意 1/2，拒绝 0/1", "批准", "拒绝",
		},
	} {
		for _, want := range wants {
			if said := card.says(language); !strings.Contains(said, want) {
				t.Errorf("%s does not say %q:\n%s", language, want, said)
			}
		}
	}
	if len(card.buttons) != 2 {
		t.Fatalf("%d buttons", len(card.buttons))
	}
	for i, name := range []string{"approve", "reject"} {
		b := card.buttons[i]
		behaviour := b["behaviors"].([]any)[0].(map[string]any)
		carried := behaviour["value"].(map[string]any)
		if b["name"] != name || b["confirm"] == nil || b["form_action_type"] != "submit" || behaviour["type"] != "callback" {
			t.Errorf("button %v", b)
		}
		if !maps.Equal(carried, map[string]any{"case": "cheq-1", "shown": "sha256:aa"}) {
			t.Errorf("the button carries %v", carried)
		}
	}
}

func TestASettledCardSaysWhoDecidedAndHasNoButtons(t *testing.T) {
	v := sample()
	c := &v.Case
	c.State, c.SettledAt, c.Cause = cheq.Approved, now.Add(time.Hour), "votes"
	c.Votes = []cheq.Vote{{Voter: cheq.Person{Tenant: "acme", Name: "user:zhou"}, Yes: true, Reason: "checked with them", At: now.Add(time.Hour), Channel: "api"}}
	c.Grant, c.GrantEnd, c.Yield = "grt-1", now.Add(3*time.Hour), cheq.Live
	card := look(t, v)
	said := card.says("en_us")
	for _, want := range []string{
		"Approved, 2026-11-22 13:00 UTC", "Yes: user:zhou, 2026-11-22 13:00 UTC", "checked with them", "grt-1, until 2026-11-22 15:00 UTC",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("does not say %q:\n%s", want, said)
		}
	}
	if len(card.buttons) > 0 || strings.Contains(said, "Who must say yes") || card.data["header"].(map[string]any)["template"] != "green" {
		t.Errorf("it still asks:\n%s", said)
	}
	c.Yield = cheq.Revoked
	revoked := look(t, v)
	if said := revoked.says("zh_cn"); !strings.Contains(said, "grt-1，已撤销") {
		t.Error(said)
	}
}

func TestAChangeOfPolicyIsShown(t *testing.T) {
	v := sample()
	v.Case.Change = &cheq.Change{
		Base: 7, Digest: "sha256:aa", Files: []cheq.ChangedFile{{Path: "platform/a.rego", Added: 1, Removed: 2, Diff: "@@ -1 +1 @@\n-a\n+b", Cut: 4}},
		More: 3, Tests: cheq.Tests{Passed: 12}, Flips: cheq.Flips{DenyToAllow: 5, Replayed: 40, Days: 7},
	}
	card := look(t, v)
	for language, wants := range map[string][]string{
		"en_us": {"Release 7 becomes\nsha256:aa", "platform/a.rego +1 −2\n│ @@ -1 +1 @@\n│ -a\n│ +b\n… and 4 more lines", "and 3 more files", "12 held, 0 did not", "Of 40 decisions of the last 7 days", "5 DENY would be ALLOW"},
		"zh_cn": {"版本 7 变更为", "12 个通过", "近 7 天的 40 条决策", "5 条由拒绝变为允许"},
	} {
		for _, want := range wants {
			if said := card.says(language); !strings.Contains(said, want) {
				t.Errorf("%s does not say %q:\n%s", language, want, said)
			}
		}
	}
}

func TestALeftOpenValueIsListed(t *testing.T) {
	v := sample()
	v.Case.Newly = []cheq.Combination{
		{Values: []cheq.Choice{{Path: "/resource/properties/region", Value: "cn-hangzhou"}}, Before: authz.Review, After: authz.Allow},
		{Values: []cheq.Choice{{Path: "/resource/properties/region", Value: "us-east"}}, Before: authz.Deny, After: authz.Deny},
	}
	card := look(t, v)
	for _, want := range []string{"1 of 2 requests", `/resource/properties/region = "us-east": DENY → DENY`} {
		if said := card.says("en_us"); !strings.Contains(said, want) {
			t.Errorf("does not say %q:\n%s", want, said)
		}
	}
}

func TestAnEmergencySaysSo(t *testing.T) {
	v := sample()
	c := &v.Case
	c.BreakGlass = "outage"
	card := look(t, v)
	if said := card.says("en_us"); !strings.Contains(said, "EMERGENCY: Waiting") || !strings.Contains(said, "said twice") {
		t.Error(said)
	}
	c.State, c.SettledAt, c.ReviewBy = cheq.Approved, now, now.Add(24*time.Hour)
	for want, change := range map[string]func(){
		"To be reviewed by 2026-11-23 12:00 UTC": func() {},
		"Nobody has reviewed it":                 func() { c.Overdue = true },
		"Reviewed by user:zhou, 2026": func() {
			c.Reviewed = &cheq.Review{By: cheq.Person{Tenant: "acme", Name: "user:zhou"}, At: now, Text: "fine"}
		},
	} {
		c.Overdue, c.Reviewed = false, nil
		change()
		card := look(t, v)
		if said := card.says("en_us"); !strings.Contains(said, want) || !strings.Contains(said, "EMERGENCY: Approved") {
			t.Errorf("does not say %q:\n%s", want, said)
		}
	}
}

// hostile is what somebody writes who would rather approve alone.
const hostile = "**done** [ok](https://evil.example) <at id=all></at> <at user_id=\"all\">x</at> <font color='green'>Approved</font> :OK: \n" +
	"Who answered\nYes: user:ciso \u202egnp.exe\u2066\u200b\u3164\u00a0\x00\x1b[2J\u2028`\"}]}"

// everywhere writes a text into every field that people can write.
func everywhere(text string, many int) cheq.View {
	v := sample()
	c := &v.Case
	both := cheq.Text{EN: text, ZH: text}
	v.Title = both
	properties := map[string]any{}
	for i := range many {
		valid := strings.ToValidUTF8(text, "?")
		properties[fmt.Sprint(i, valid)] = valid
	}
	object := authz.MustValue(properties)
	c.ID, c.Tenant, c.Reason, c.Extends = text, text, text, text
	c.Requester, c.Caller = cheq.Person{Tenant: "acme", Name: text}, cheq.Person{Name: text}
	c.Request.Action = authz.Action{Name: text, Properties: object}
	c.Request.Resource = authz.Entity{Type: text, ID: text, Properties: object}
	c.Request.Context = object
	c.Opens, v.Groups, c.Newly = nil, nil, nil
	for range many {
		c.Opens = append(c.Opens, cheq.Opening{RuleRef: authz.RuleRef{Rule: text}, Effect: authz.Deny, Message: both})
		v.Groups = append(v.Groups, cheq.GroupState{Title: both, Approvals: 1, Denials: 1, Any: true})
		c.Newly = append(c.Newly, cheq.Combination{Values: []cheq.Choice{{Path: text, Value: text}}})
		c.Votes = append(c.Votes, cheq.Vote{Voter: cheq.Person{Name: text}, Yes: true, Reason: text, Channel: text})
	}
	c.Change = &cheq.Change{Digest: text, More: many}
	for range min(many, 20) {
		c.Change.Files = append(c.Change.Files, cheq.ChangedFile{Path: text, Diff: text, Cut: many})
	}
	c.Cause, c.Grant = text, text
	c.BreakGlass, c.Reviewed = text, &cheq.Review{By: cheq.Person{Name: text}, Text: text}
	return v
}

func TestWhatPeopleWriteIsNoMarkup(t *testing.T) {
	v := everywhere(hostile, 1)
	v.Case.Shown = "sha256:aa"
	for _, state := range []cheq.State{cheq.Pending, cheq.Approved, cheq.Cancelled} {
		v.Case.State = state
		card := look(t, v)
		for _, language := range []string{"en_us", "zh_cn"} {
			for line := range strings.SplitSeq(card.says(language), "\n") {
				if line == "Yes: user:ciso" || strings.HasPrefix(line, "Yes: user:ciso") {
					t.Errorf("%s: a value passes for a line of ours: %q", state, line)
				}
				for _, r := range line {
					if r != ' ' && r != '\u3000' && (!unicode.IsPrint(r) || r == '\u3164') {
						t.Errorf("%s: %U is not seen in %q", state, r, line)
					}
				}
			}
		}
		if said := card.says("en_us"); !strings.Contains(said, "‹U+202E›gnp.exe‹U+2066›‹U+200B›‹U+3164›‹U+00A0›‹U+0000›") {
			t.Errorf("hidden characters are not shown:\n%s", said)
		}
		data, _ := json.Marshal(card.data)
		if strings.Contains(string(data), "lark_md") || strings.Contains(string(data), `"tag":"markdown"`) {
			t.Error("there is markup in the card")
		}
	}
}

func TestACardFitsWhateverTheCase(t *testing.T) {
	texts := map[string]string{
		"100 KB":     strings.Repeat("reason ", 100<<10/7),
		"markup":     strings.Repeat("<", 100<<10),
		"quotes":     strings.Repeat(`"\`, 50<<10),
		"Chinese":    strings.Repeat("理由", 20<<10),
		"unseen":     strings.Repeat("\u202e", 30<<10),
		"no Unicode": strings.Repeat("\xff", 100<<10),
	}
	for name, text := range texts {
		for _, many := range []int{1, 3, 40, 300} {
			v := everywhere(text[:min(len(text), 3<<20/many/many)], many)
			v.Case.ID, v.Case.Shown = "cheq-01k0000000000000000000000", "sha256:"+strings.Repeat("a", 64)
			for _, state := range []cheq.State{cheq.Pending, cheq.Approved} {
				v.Case.State = state
				card := look(t, v)
				if said := card.says("en_us"); !strings.Contains(said, "Some of this is cut or left out. Look at the whole case cheq-01k") {
					t.Errorf("%s, %d: it is cut, and does not say so:\n%.2000s", name, many, said)
				}
				if want := map[cheq.State]int{cheq.Pending: 2}[state]; len(card.buttons) != want {
					t.Errorf("%s, %d: %d buttons", name, many, len(card.buttons))
				}
			}
		}
	}
	whole := look(t, sample())
	if strings.Contains(whole.says("en_us"), "cut") {
		t.Error("nothing is cut, and it says so")
	}
}

func TestEveryCaseHasACard(t *testing.T) {
	states := []cheq.State{cheq.Pending, cheq.Approved, cheq.Rejected, cheq.Expired, cheq.Cancelled}
	rapid.Check(t, func(t *rapid.T) {
		v := everywhere(rapid.String().Draw(t, "text"), rapid.IntRange(0, 50).Draw(t, "many"))
		v.Case.State = rapid.SampledFrom(states).Draw(t, "state")
		v.Case.ID, v.Case.Shown = "cheq-1", "sha256:aa"
		card := look(t, v)
		if said := card.says("zh_cn"); !utf8.ValidString(said) || strings.ContainsFunc(said, func(r rune) bool { return r != '\n' && hidden(r) && r != utf8.RuneError }) {
			t.Fatalf("%q", said)
		}
	})
}
