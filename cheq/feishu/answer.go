package feishu

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/larksuite/oapi-sdk-go/v3/event/dispatcher/callback"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// What people are told.
var (
	sayOutsider = cheq.Text{EN: "Your Feishu account is of another organisation: it cannot answer here.", ZH: "您的飞书账号属于其他组织，不能在此审批。"}
	sayLong     = cheq.Text{EN: "Not recorded: the reason is too long (4096 bytes at most).", ZH: "未记录：理由过长（最多 4096 字节）。"}
	sayLate     = cheq.Text{EN: "It is not certain that your answer was recorded: please tap again.", ZH: "无法确认您的答复已被记录，请再点一次。"}
	sayLater    = cheq.Text{EN: "Not recorded: something is wrong on our side. Please try again in a minute.", ZH: "未记录：系统出现故障，请稍后再试。"}
	sayReplay   = cheq.Text{EN: "This answer was taken already.", ZH: "该答复此前已被处理。"}
	sayStranger = cheq.Text{
		EN: "Not recorded: your Feishu account is bound to nobody. Get a binding code in Xiezhi and send it to this bot in a private chat, then tap again.",
		ZH: "未记录：您的飞书账号尚未绑定。请在 Xiezhi 获取绑定码，私聊发送给本机器人，然后再点一次。",
	}
	sayMessage = cheq.Text{
		EN: "Not recorded: this is not the card that was sent for the case, such as a forwarded copy. Answer on the original.",
		ZH: "未记录：这不是该审批的原始卡片（例如转发的副本），请在原卡片上操作。",
	}
	sayNotReviewer = cheq.Text{EN: "Not recorded: you are not a reviewer of this case.", ZH: "未记录：您不是该审批的审批人。"}
	sayChanged     = cheq.Text{EN: "Not recorded: the case is not what this card shows any more.", ZH: "未记录：审批内容已与此卡片不同。"}
	sayNoCase      = cheq.Text{EN: "Not recorded: there is no such case.", ZH: "未记录：没有这个审批。"}
	sayYes         = cheq.Text{EN: "Recorded: you approved. Others must still answer.", ZH: "已记录：您已批准，还需其他人审批。"}
	sayNo          = cheq.Text{EN: "Recorded: you rejected.", ZH: "已记录：您已拒绝。"}
	sayConfirm     = cheq.Text{
		EN: "An emergency: your yes does not count yet. Wait a moment, then tap Approve once more within ten minutes to confirm it.",
		ZH: "紧急审批：您的同意尚未生效。请稍等片刻，并在十分钟内再次点击“批准”以确认。",
	}
	sayOften   = cheq.Text{EN: "Not recorded: you changed your answer too many times. The last one stands.", ZH: "未记录：您更改答复的次数过多，以最后一次为准。"}
	sayUnbound = cheq.Text{EN: "No such code, or its time is over: get a new one.", ZH: "绑定码无效或已过期，请重新获取。"}
)

// sayBound names whom an account was bound to. Messages know markup in <>.
func sayBound(who cheq.Person) cheq.Text {
	named, _ := fit(strings.NewReplacer("<", "‹", ">", "›").Replace(who.String()), 200)
	return cheq.Text{EN: "Bound to " + named + ".", ZH: "已绑定到 " + named + "。"}
}

// refusals are the errors of an answer that its giver can do something about.
var refusals = []struct {
	err error
	say cheq.Text
}{
	{cheq.ErrReplay, sayReplay}, {cheq.ErrStranger, sayStranger}, {cheq.ErrMessage, sayMessage},
	{cheq.ErrNotReviewer, sayNotReviewer}, {cheq.ErrShown, sayChanged}, {cheq.ErrNotFound, sayNoCase},
	{cheq.ErrText, sayLong}, {cheq.ErrTooMany, sayOften},
}

// expected reports whether an error is people's doing.
func expected(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return true
		}
	}
	return errors.Is(err, cheq.ErrSettled) || errors.Is(err, cheq.ErrConfirm)
}

func toast(kind string, say cheq.Text) *callback.CardActionTriggerResponse {
	return &callback.CardActionTriggerResponse{Toast: &callback.Toast{
		Type: kind, Content: say.EN, I18nContent: map[string]string{"en_us": say.EN, "zh_cn": say.ZH},
	}}
}

// outcome tells what came of an answer. The card comes along where the answer
// was this case's: a forwarded copy, or who may not answer, is shown no more.
func outcome(about *value, yes bool, v cheq.View, err error) *callback.CardActionTriggerResponse {
	known := v.Case.ID == about.Case
	switch {
	case err == nil && known:
		say := sayNo
		if yes {
			say = sayYes
		}
		if v.Case.State.Settled() {
			say = sayEnd(&v.Case)
		}
		return withCard(toast("success", say), about.To, v)
	case err == nil:
		return toast("error", sayLater)
	case errors.Is(err, cheq.ErrSettled) && known:
		return withCard(toast("info", sayEnd(&v.Case)), about.To, v)
	case errors.Is(err, cheq.ErrSettled):
		return toast("info", cheq.Text{EN: "Not recorded: the case was settled before.", ZH: "未记录：该审批此前已结束。"})
	case errors.Is(err, cheq.ErrConfirm):
		return toast("warning", sayConfirm)
	case errors.Is(err, context.DeadlineExceeded):
		return toast("warning", sayLate)
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return toast("error", r.say)
		}
	}
	return toast("error", sayLater)
}

func withCard(answer *callback.CardActionTriggerResponse, to string, v cheq.View) *callback.CardActionTriggerResponse {
	if card, err := render(to, v); err == nil {
		answer.Card = &callback.Card{Type: "raw", Data: json.RawMessage(card)}
	}
	return answer
}

// sayEnd says how a case ended, and by whom.
func sayEnd(c *cheq.Case) cheq.Text {
	say := stateText(c.State)
	var by []string
	for i := range c.Votes {
		if v := &c.Votes[i]; v.Yes == (c.State == cheq.Approved) {
			by = append(by, v.Voter.String())
		}
	}
	if (c.State == cheq.Approved || c.State == cheq.Rejected) && len(by) > 0 {
		who, _ := fit(strings.Join(by, ", "), 300)
		return cheq.Text{EN: say.EN + ", by " + who + ".", ZH: say.ZH + "，由 " + who + "。"}
	}
	return cheq.Text{EN: say.EN + ".", ZH: say.ZH + "。"}
}
