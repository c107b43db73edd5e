package matrix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"strconv"
	"strings"
	"time"

	"maunium.net/go/mautrix/event"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// The custom parts of the protocol.
const (
	cheqMember   = "dev.xiezhi.cheq"          // of a notice: which case it shows
	decisionType = "dev.xiezhi.cheq.decision" // of an event: an answer
)

// notice is the content of a message of ours.
type notice struct {
	Type          event.MessageType `json:"msgtype"`
	Body          string            `json:"body"`
	Format        event.Format      `json:"format,omitempty"`
	FormattedBody string            `json:"formatted_body,omitempty"`
	// Mentions is always empty: where it is given, clients look for no names
	// and no @room in the text.
	Mentions   struct{}  `json:"m.mentions"`
	Cheq       *shown    `json:"dev.xiezhi.cheq,omitempty"`
	NewContent *notice   `json:"m.new_content,omitempty"`
	RelatesTo  *relation `json:"m.relates_to,omitempty"`
}

// shown says what a notice shows.
type shown struct {
	Case  string `json:"case"`
	Shown string `json:"shown"` // the card's digest
}

// relation is how an event refers to another one.
type relation struct {
	Type        string   `json:"rel_type,omitempty"`
	Event       string   `json:"event_id,omitempty"`
	Key         string   `json:"key,omitempty"`
	FallingBack bool     `json:"is_falling_back,omitempty"`
	InReplyTo   *replied `json:"m.in_reply_to,omitempty"`
}

type replied struct {
	Event string `json:"event_id,omitempty"`
}

// cut is how much is shown: bytes of the request and of each text, and lines of
// each list.
type cut struct{ request, text, lines int }

// cuts are tried until a notice fits; an event has at most 64 KiB.
var cuts = [...]cut{{16 << 10, 4 << 10, 100}, {8 << 10, 1 << 10, 50}, {4 << 10, 512, 25}, {1 << 10, 128, 20}}

const maxNotice = 48 << 10

// render writes a case for a room.
func render(v *cheq.View) (notice, error) {
	digest, err := v.Case.Card().Digest()
	if err != nil {
		return notice{}, err
	}
	n := notice{Type: event.MsgNotice, Format: event.FormatHTML, Cheq: &shown{v.Case.ID, digest}}
	for _, c := range cuts {
		p := page{cut: c}
		p.fill(v, digest)
		n.Body, n.FormattedBody = p.plain.String(), p.markup.String()
		var written bytes.Buffer
		encoder := json.NewEncoder(&written)
		encoder.SetEscapeHTML(false) // as the homeserver counts
		if err := encoder.Encode(n); err != nil {
			return notice{}, fmt.Errorf("case %s: %w", v.Case.ID, err)
		}
		if written.Len() <= maxNotice {
			return n, nil
		}
	}
	return notice{}, fmt.Errorf("case %s: it is too long for a message: %w", v.Case.ID, cheq.ErrGone)
}

// page is a text in the making, as plain text and as markup.
type page struct {
	cut
	plain, markup strings.Builder
	short         bool // something was left out
}

// line adds one line; the label is ours, the value anybody's.
func (p *page) line(label, value string) {
	value = p.fit(value, p.text)
	fmt.Fprintf(&p.plain, "%s: %s\n", label, value)
	fmt.Fprintf(&p.markup, "<strong>%s</strong>: %s<br>", html.EscapeString(label), html.EscapeString(value))
}

// list adds a line with what the nth of several says, if so many are shown.
func (p *page) list(label string, nth int, value string) {
	if nth >= p.lines {
		p.short = true
		return
	}
	p.line(label, value)
}

// code adds lines as they are written.
func (p *page) code(label, text string) {
	var lines []string
	for line := range strings.SplitSeq(p.fit(text, p.request), "\n") {
		lines = append(lines, clean(line))
	}
	text = strings.Join(lines, "\n")
	fmt.Fprintf(&p.plain, "%s:\n%s\n", label, text)
	fmt.Fprintf(&p.markup, "<strong>%s</strong>:<pre><code>%s</code></pre>", html.EscapeString(label), html.EscapeString(text))
}

func (p *page) fit(text string, most int) string {
	if len(text) <= most {
		return text
	}
	p.short = true
	return strings.ToValidUTF8(text[:most], "") + " […]"
}

func (p *page) fill(v *cheq.View, digest string) {
	c := &v.Case
	head := summary(v)
	p.plain.WriteString(head + "\n")
	p.markup.WriteString("<strong>" + html.EscapeString(head) + "</strong><br>")
	p.line("Case · 事项", clean(c.ID)+", "+clean(c.Tenant))
	asked := clean(c.Requester.String())
	if c.Caller != c.Requester {
		asked += " ← " + clean(c.Caller.String())
	}
	p.line("Requester · 申请人", asked)
	if c.Reason != "" {
		p.line("Reason · 理由", clean(c.Reason))
	}
	p.line("Action · 操作", clean(c.Request.Action.Name)+" → "+clean(c.Request.Resource.Type)+" "+clean(c.Request.Resource.ID))
	for i, o := range c.Opens {
		p.list("A yes opens · 批准将放行", i, o.Effect.String()+" "+clean(o.Rule)+": "+both(o.Message))
	}
	p.newly(c.Newly)
	p.change(c.Change)
	grant := c.GrantFor.String()
	if c.Uses > 0 {
		grant += fmt.Sprintf(", %d × (uses · 次)", c.Uses)
	}
	p.line("Grant · 授权时长", grant)
	if c.Extends != "" {
		p.line("Prolongs · 延长", clean(c.Extends))
	}
	var request bytes.Buffer
	if json.Indent(&request, c.Request.AppendJSON(nil), "", "  ") == nil {
		p.code("Request · 请求", request.String())
	}
	p.votes(v)
	if c.State.Settled() {
		p.outcome(c)
	} else {
		p.line("Decide by · 截止", c.DecideBy.UTC().Format(time.RFC3339))
	}
	if p.short {
		p.line("Shortened · 已截断", "see the case in Xiezhi for all of it · 完整内容请在 Xiezhi 中查看")
	}
	p.line("Digest · 摘要", digest)
	if c.State.Settled() {
		return
	}
	if c.BreakGlass != "" {
		p.line("Twice · 两次确认", "in an emergency a yes is said twice: react with ✅, then reply “approve” within ten minutes · 紧急事项须确认两次：先用 ✅ 回应，再于十分钟内回复“同意”")
	} else {
		p.line("Answer · 答复", "react with ✅ or ❌, or reply “approve” or “reject” and a reason · 用 ✅ 或 ❌ 回应，或回复“同意”或“拒绝”并附理由")
	}
}

// newly adds what a yes newly allows, request by request where values are left
// open.
func (p *page) newly(all []cheq.Combination) {
	if len(all) > 0 {
		p.line("Newly allowed · 新增放行", fmt.Sprintf("%d/%d", cheq.NewlyAllowed(all), len(all)))
	}
	for i := range all {
		of := "this request · 本请求"
		for j, choice := range all[i].Values {
			if j == 0 {
				of = ""
			}
			of += clean(choice.Path) + " = " + clean(strconv.Quote(choice.Value)) + ", "
		}
		p.list("–", i, fmt.Sprintf("%s: %s → %s", strings.TrimSuffix(of, ", "), all[i].Before, all[i].After))
	}
}

// votes adds how far the groups have come, and who said what, the newest first.
func (p *page) votes(v *cheq.View) {
	for i, g := range v.Groups {
		state := fmt.Sprintf("%s: ✔ %d/%d, ✘ %d/%d", both(g.Title), g.Yes, g.Approvals, g.No, g.Denials)
		if g.Any {
			state += " (one such group is enough · 任一组即可)"
		}
		p.list("Group · 审批组", i, state)
	}
	for i := range v.Case.Votes {
		vote := &v.Case.Votes[len(v.Case.Votes)-1-i]
		said := "✘ "
		if vote.Yes {
			said = "✔ "
		}
		said += clean(vote.Voter.String()) + ", " + vote.At.UTC().Format(time.RFC3339) + ", " + clean(vote.Channel)
		if vote.Reason != "" {
			said += ": " + clean(vote.Reason)
		}
		p.list("Answer · 表决", i, said)
	}
}

// outcome adds how a case ended, and what it minted.
func (p *page) outcome(c *cheq.Case) {
	p.line("Ended · 结束", fmt.Sprintf("%s, %s, %s", state(c.State), clean(c.Cause), c.SettledAt.UTC().Format(time.RFC3339)))
	switch {
	case c.Reviewed != nil:
		p.line("Looked back · 事后复核", clean(c.Reviewed.By.String())+": "+clean(c.Reviewed.Text))
	case c.Overdue:
		p.line("Look back · 事后复核", "overdue · 已逾期")
	case !c.ReviewBy.IsZero():
		p.line("Look back by · 复核截止", c.ReviewBy.UTC().Format(time.RFC3339))
	}
	if c.Grant == "" {
		return
	}
	grant := clean(c.Grant) + " ≤ " + c.GrantEnd.UTC().Format(time.RFC3339)
	switch c.Yield {
	case cheq.Revoked:
		grant += ", revoked · 已撤销"
	case cheq.UsedUp:
		grant += ", used up · 已用完"
	case cheq.Ended:
		grant += ", over · 已到期"
	}
	p.line("Grant · 授权", grant)
}

// summary is a case in one line.
func summary(v *cheq.View) string {
	title := both(v.Title)
	if len(title) > 512 {
		title = strings.ToValidUTF8(title[:512], "") + " […]"
	}
	head := state(v.Case.State) + ": " + title
	if v.Case.BreakGlass != "" {
		head = "EMERGENCY · 紧急: " + head
	}
	return head
}

func state(s cheq.State) string {
	switch s {
	case cheq.Pending:
		return "Approval needed · 待审批"
	case cheq.Approved:
		return "Approved · 已批准"
	case cheq.Rejected:
		return "Rejected · 已拒绝"
	case cheq.Expired:
		return "Expired · 已过期"
	default:
		return "Cancelled · 已取消"
	}
}

func both(t cheq.Text) string { return clean(t.EN) + " · " + clean(t.ZH) }
