package feishu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

// What a card may be: the platform's 30 KB of request body, less what goes
// around the card, and its 200 elements.
const (
	maxCard     = 29_000
	maxElements = 190
)

// scale is how much of a case a card shows.
type scale struct {
	most int // bytes of one value
	few  int // values of one kind
}

// scales are tried from the first one on. The last fits whatever the case.
var scales = [...]scale{{4096, 24}, {1600, 24}, {800, 16}, {300, 12}, {120, 8}, {60, 5}, {24, 3}}

var errCard = errors.New("feishu: the case fits in no card")

// render writes a case as a card for a place, whole or as much of it as fits.
func render(to string, v cheq.View) ([]byte, error) {
	for _, s := range scales {
		card, err := json.Marshal((&sheet{scale: s, to: to}).card(&v))
		if err != nil {
			return nil, err
		}
		// In a request the card is a string, escaped once more.
		inString, err := json.Marshal(string(card))
		if err != nil {
			return nil, err
		}
		if len(inString) <= maxCard && bytes.Count(card, []byte(`"tag":`)) <= maxElements {
			return card, nil
		}
	}
	return nil, errCard
}

// element is one of the card's, by the names of Feishu's card JSON 2.0, which
// refuses members that it does not know.
type element map[string]any

// sheet is a card being written.
type sheet struct {
	scale
	to       string
	elements []element
	cut      bool
}

// plain is a text that is no markup. What people wrote goes in through fit.
func plain(t cheq.Text) element {
	e := element{"tag": "plain_text", "content": t.EN}
	if t.EN != t.ZH {
		e["i18n_content"] = map[string]string{"en_us": t.EN, "zh_cn": t.ZH}
	}
	return e
}

// fit cleans what people wrote, and cuts it.
func (s *sheet) fit(text string) string {
	shown, cut := fit(text, s.most)
	s.cut = s.cut || cut
	return shown
}

func (s *sheet) fitBoth(t cheq.Text) cheq.Text {
	t = both(t)
	return cheq.Text{EN: s.fit(t.EN), ZH: s.fit(t.ZH)}
}

func (s *sheet) say(t cheq.Text) {
	s.elements = append(s.elements, element{"tag": "div", "text": plain(t)})
}

// value shows what people wrote, in an element of its own: it cannot pass for
// a label.
func (s *sheet) value(text string) {
	text = s.fit(text)
	s.say(cheq.Text{EN: text, ZH: text})
}

func (s *sheet) label(en, zh string) {
	text := plain(cheq.Text{EN: en, ZH: zh})
	text["text_size"], text["text_color"] = "notation", "grey"
	s.elements = append(s.elements, element{"tag": "div", "text": text})
}

// some shows the first few of so many, and says how many are left out.
func (s *sheet) some(n int, show func(i int)) {
	for i := range min(n, s.few) {
		show(i)
	}
	if left := n - s.few; left > 0 {
		s.cut = true
		s.say(textf("… and %d more", "……另有 %d 项", left))
	}
}

func (s *sheet) card(v *cheq.View) element {
	c := &v.Case
	title := s.fitBoth(v.Title)
	if title.EN == "" {
		title = cheq.Text{EN: "Approval", ZH: "审批"}
	}
	if c.BreakGlass != "" {
		s.emergency(c)
	}
	s.who(c)
	s.what(c)
	s.opens(c)
	if c.State.Settled() {
		s.end(c)
	} else {
		s.progress(v)
	}
	s.votes(c)
	if s.cut {
		s.say(textf("Some of this is cut or left out. Look at the whole case %s in Xiezhi.", "部分内容已截断或省略，完整内容请在 Xiezhi 查看 %s。", s.fit(c.ID)))
	}
	s.label("Case "+s.fit(c.ID), "审批编号 "+s.fit(c.ID))
	if !c.State.Settled() {
		s.form(c)
	}
	state, colour := stateText(c.State), colours[c.State]
	if c.BreakGlass != "" {
		state = cheq.Text{EN: "EMERGENCY: " + state.EN, ZH: "紧急：" + state.ZH}
		colour = "carmine"
	}
	return element{
		"schema": "2.0",
		"config": element{
			"update_multi": true, "enable_forward": false, "locales": []string{"en_us", "zh_cn"},
			"summary": element{"content": state.EN + ": " + title.EN, "i18n_content": map[string]string{
				"en_us": state.EN + ": " + title.EN, "zh_cn": state.ZH + "：" + title.ZH,
			}},
		},
		"header": element{"title": plain(title), "subtitle": plain(state), "template": colour},
		"body":   element{"elements": s.elements},
	}
}

var colours = map[cheq.State]string{
	cheq.Pending: "orange", cheq.Approved: "green", cheq.Rejected: "red", cheq.Expired: "grey", cheq.Cancelled: "grey",
}

func stateText(state cheq.State) cheq.Text {
	switch state {
	case cheq.Pending:
		return cheq.Text{EN: "Waiting for approval", ZH: "等待审批"}
	case cheq.Approved:
		return cheq.Text{EN: "Approved", ZH: "已批准"}
	case cheq.Rejected:
		return cheq.Text{EN: "Rejected", ZH: "已拒绝"}
	case cheq.Expired:
		return cheq.Text{EN: "Expired: nobody decided in time", ZH: "已过期：无人在期限内处理"}
	default:
		return cheq.Text{EN: "Cancelled", ZH: "已取消"}
	}
}

// emergency says what is different, and whether somebody looked back.
func (s *sheet) emergency(c *cheq.Case) {
	s.label("Emergency", "紧急审批")
	s.say(cheq.Text{
		EN: "This breaks the glass: a yes must be said twice, is marked in every record, and is reviewed afterwards.",
		ZH: "此为紧急放行：同意须确认两次，所有记录均会标注，并须事后复核。",
	})
	by := stamp(c.ReviewBy)
	switch {
	case c.Reviewed != nil:
		at, who := stamp(c.Reviewed.At), s.fit(c.Reviewed.By.String())
		s.say(cheq.Text{EN: "Reviewed by " + who + ", " + at.EN, ZH: "已由 " + who + " 复核，" + at.ZH})
		s.value(c.Reviewed.Text)
	case c.Overdue:
		s.say(cheq.Text{EN: "Nobody has reviewed it by " + by.EN, ZH: "截至 " + by.ZH + " 仍无人复核"})
	case !c.ReviewBy.IsZero():
		s.say(cheq.Text{EN: "To be reviewed by " + by.EN, ZH: "须在 " + by.ZH + " 前复核"})
	}
}

func (s *sheet) who(c *cheq.Case) {
	s.label("Who asks", "申请人")
	s.value(c.Requester.String())
	if c.Caller != c.Requester {
		s.label("Brought by", "经由")
		s.value(c.Caller.String())
	}
	s.label("Why", "理由")
	if c.Reason == "" {
		s.say(cheq.Text{EN: "No reason is given.", ZH: "未填写理由。"})
	} else {
		s.value(c.Reason)
	}
}

func (s *sheet) what(c *cheq.Case) {
	r := &c.Request
	s.label("Tenant", "租户")
	s.value(c.Tenant)
	s.label("Action", "操作")
	s.value(r.Action.Name)
	s.label("Resource", "资源")
	s.value(r.Resource.Type + " " + r.Resource.ID)
	s.members("Properties of the resource", "资源属性", r.Resource.Properties)
	s.members("Properties of the action", "操作属性", r.Action.Properties)
	s.members("Context", "上下文", r.Context)
}

func (s *sheet) members(en, zh string, object authz.Value) {
	members := object.Members()
	if len(members) == 0 {
		return
	}
	s.label(en, zh)
	s.some(len(members), func(i int) { s.value(members[i].Name + " = " + members[i].Value.String()) })
}

func (s *sheet) opens(c *cheq.Case) {
	s.label("A yes opens", "批准将放行")
	s.some(len(c.Opens), func(i int) {
		o := &c.Opens[i]
		rule := s.fit(o.Rule)
		if o.Effect == authz.Deny {
			s.say(textf("Waives the refusal of %s", "豁免规则 %s 的拒绝", rule))
		} else {
			s.say(textf("Satisfies the review of %s", "满足规则 %s 的审批要求", rule))
		}
		if message := s.fitBoth(o.Message); message.EN != "" {
			s.say(message)
		}
	})
	s.newly(c.Newly)
	s.label("For how long", "有效期")
	long := lasting(c.GrantFor)
	say := cheq.Text{EN: long.EN + " from the approval", ZH: "自批准起 " + long.ZH}
	if c.Uses > 0 {
		uses := textf(", %d use(s) at most", "，最多使用 %d 次", c.Uses)
		say = cheq.Text{EN: say.EN + uses.EN, ZH: say.ZH + uses.ZH}
	}
	s.say(say)
	if c.Extends != "" {
		s.label("Prolongs the grant of", "延长以下审批的授权")
		s.value(c.Extends)
	}
}

// newly shows what a yes newly allows, request by request where values are
// left open.
func (s *sheet) newly(all []cheq.Combination) {
	if len(all) == 0 {
		return
	}
	s.label("What a yes newly allows", "批准后新增放行")
	if n := cheq.NewlyAllowed(all); len(all) == 1 && n == 0 {
		s.say(cheq.Text{EN: "Nothing: something else refuses it still.", ZH: "无：仍有其他规则拒绝。"})
	} else if len(all) > 1 {
		s.say(textf("%d of %d requests", "%d/%d 个请求", n, len(all)))
	}
	s.some(len(all), func(i int) {
		var chosen []string
		for _, choice := range all[i].Values {
			chosen = append(chosen, choice.Path+" = "+strconv.Quote(choice.Value))
		}
		if len(chosen) == 0 {
			s.say(textf("This request: %s → %s", "本请求：%s → %s", all[i].Before, all[i].After))
		} else {
			s.value(fmt.Sprintf("%s: %s → %s", strings.Join(chosen, ", "), all[i].Before, all[i].After))
		}
	})
}

func (s *sheet) progress(v *cheq.View) {
	s.label("Decide by", "审批截止")
	s.say(stamp(v.Case.DecideBy))
	if len(v.Groups) == 0 {
		return
	}
	s.label("Who must say yes", "审批进度")
	s.some(len(v.Groups), func(i int) {
		g := &v.Groups[i]
		title := s.fitBoth(g.Title)
		say := cheq.Text{
			EN: fmt.Sprintf("%s: %d of %d yes, %d of %d no", title.EN, g.Yes, g.Approvals, g.No, g.Denials),
			ZH: fmt.Sprintf("%s：同意 %d/%d，拒绝 %d/%d", title.ZH, g.Yes, g.Approvals, g.No, g.Denials),
		}
		if g.Any {
			say = cheq.Text{EN: say.EN + " (one such group is enough)", ZH: say.ZH + "（此类分组满足其一即可）"}
		}
		s.say(say)
	})
}

// end says how a settled case ended, and what it minted.
func (s *sheet) end(c *cheq.Case) {
	s.label("Settled", "结果")
	state, at := stateText(c.State), stamp(c.SettledAt)
	s.say(cheq.Text{EN: state.EN + ", " + at.EN, ZH: state.ZH + "，" + at.ZH})
	if c.Cause != "" && c.Cause != "votes" {
		s.value(c.Cause)
	}
	if c.Grant == "" {
		return
	}
	s.label("Grant", "授权")
	until := stamp(c.GrantEnd)
	grant := s.fit(c.Grant)
	say := cheq.Text{EN: grant + ", until " + until.EN, ZH: grant + "，有效至 " + until.ZH}
	switch c.Yield {
	case cheq.UsedUp:
		say = cheq.Text{EN: grant + ", used up", ZH: grant + "，次数已用完"}
	case cheq.Ended:
		say = cheq.Text{EN: grant + ", ended " + until.EN, ZH: grant + "，已于 " + until.ZH + " 到期"}
	case cheq.Revoked:
		say = cheq.Text{EN: grant + ", revoked", ZH: grant + "，已撤销"}
	}
	s.say(say)
}

// votes shows who answered, the newest first.
func (s *sheet) votes(c *cheq.Case) {
	if len(c.Votes) == 0 {
		return
	}
	s.label("Who answered", "审批记录")
	newest := slices.Clone(c.Votes)
	slices.Reverse(newest)
	s.some(len(newest), func(i int) {
		vote := &newest[i]
		who, at := s.fit(vote.Voter.String()), stamp(vote.At)
		if vote.Yes {
			s.say(cheq.Text{EN: "Yes: " + who + ", " + at.EN, ZH: "同意：" + who + "，" + at.ZH})
		} else {
			s.say(cheq.Text{EN: "No: " + who + ", " + at.EN, ZH: "拒绝：" + who + "，" + at.ZH})
		}
		if vote.Reason != "" {
			s.value(vote.Reason)
		}
	})
}

// The names of what people answer with.
const (
	buttonApprove = "approve"
	buttonReject  = "reject"
	inputReason   = "reason"
)

// form asks for an answer: a reason, and two buttons that ask again.
func (s *sheet) form(c *cheq.Case) {
	about := value{Case: c.ID, Shown: c.Shown}
	if !strings.HasPrefix(s.to, chatPrefix) {
		about.To = s.to
	}
	action := s.fit(c.Request.Action.Name)
	end := lasting(c.GrantFor.Round(time.Second))
	s.elements = append(s.elements, element{
		"tag": "form", "name": "answer", "elements": []element{
			{
				"tag": "input", "name": inputReason, "input_type": "multiline_text", "rows": 2, "max_length": 1000, "width": "fill",
				"placeholder": plain(cheq.Text{EN: "Reason for your answer (kept with it)", ZH: "审批意见（将一并记录）"}),
			},
			{"tag": "column_set", "columns": []element{
				column(button(buttonApprove, "primary_filled", about,
					cheq.Text{EN: "Approve", ZH: "批准"}, cheq.Text{EN: "Approve this?", ZH: "确认批准？"},
					cheq.Text{EN: action + " is opened for " + end.EN + " once all have said yes.", ZH: "全部同意后，将放行 " + action + "，时长 " + end.ZH + "。"})),
				column(button(buttonReject, "danger", about,
					cheq.Text{EN: "Reject", ZH: "拒绝"}, cheq.Text{EN: "Reject this?", ZH: "确认拒绝？"},
					cheq.Text{EN: "Nothing is opened.", ZH: "将不会放行任何操作。"})),
			}},
		},
	})
}

func column(e element) element {
	return element{"tag": "column", "width": "auto", "elements": []element{e}}
}

func button(name, kind string, about value, text, title, confirm cheq.Text) element {
	return element{
		"tag": "button", "name": name, "type": kind, "form_action_type": "submit", "text": plain(text),
		"confirm":   element{"title": plain(title), "text": plain(confirm)},
		"behaviors": []element{{"type": "callback", "value": about}},
	}
}
