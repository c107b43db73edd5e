package feishu

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/xiezhi-project/xiezhi/cheq"
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
	s.change(c.Change)
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
