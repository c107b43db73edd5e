package feishu

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xiezhi-project/xiezhi/cheq"
	"github.com/xiezhi-project/xiezhi/pep-sdk/authz"
)

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
