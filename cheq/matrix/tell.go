package matrix

import (
	"context"
	"errors"
	"html"

	"maunium.net/go/mautrix/event"

	"github.com/xiezhi-project/xiezhi/cheq"
)

// What people are told, each after the id of who is meant.
var (
	textStranger = cheq.Text{
		EN: "this account is nobody's here yet, so the answer does not count. Get a short code in Xiezhi, send me “bind CODE” in a direct message, and answer again.",
		ZH: "该账号尚未绑定身份，答复未计入。请在 Xiezhi 获取短码，私信我“bind 短码”，然后重新答复。",
	}
	textNotReviewer = cheq.Text{EN: "you are not a reviewer of this case, so the answer does not count.", ZH: "您不是该事项的审批人，答复未计入。"}
	textOften       = cheq.Text{EN: "you changed your answer too many times; the last one that was counted stands.", ZH: "您更改答复的次数过多，以最后一次计入的为准。"}
	textSettled     = cheq.Text{EN: "this case was settled before; the answer does not count.", ZH: "该事项已办结，答复未计入。"}
	textMessage     = cheq.Text{EN: "this is not the message that was sent for the case; answer the one that was.", ZH: "这不是该事项发出的消息，请在原消息上答复。"}
	textConfirm     = cheq.Text{
		EN: "noted, and not counted yet: this is an emergency. Reply “approve” to the case within ten minutes to confirm.",
		ZH: "已记录但尚未计入：这是紧急事项，请在十分钟内回复“同意”以确认。",
	}
	textReason = cheq.Text{EN: "the reason is too long, so the answer does not count; say it shorter.", ZH: "理由过长，答复未计入，请缩短后重试。"}
	textEdited = cheq.Text{EN: "a reply that was edited does not count; send a new one.", ZH: "编辑过的回复不计入，请重新回复。"}
	textLater  = cheq.Text{EN: "the answer could not be taken and does not count; answer again later, with a new reply.", ZH: "暂时无法受理，答复未计入，请稍后重新回复。"}
	textStands = cheq.Text{
		EN: "an answer that was counted stands, though it was removed here. To change it, answer with the other sign before the case is settled.",
		ZH: "已计入的答复不因在此删除而撤回。如需更改，请在事项办结前用另一种答复。",
	}
	textEncrypted = cheq.Text{EN: "I cannot read encrypted messages; use a room without encryption.", ZH: "我无法读取加密消息，请使用未加密的房间。"}
	textCode      = cheq.Text{EN: "no such code, or its time is over; get a new one.", ZH: "短码无效或已过期，请重新获取。"}
	textAlone     = cheq.Text{EN: "others can read this code here: let it expire, get a new one, and send that to me alone.", ZH: "他人可见此短码：请作废并获取新的短码，单独私信给我。"}
)

// refusal says why an answer was refused for good; the other errors may pass.
func refusal(err error) (text cheq.Text, final bool) {
	for _, known := range [...]struct {
		is   error
		text cheq.Text
	}{
		{cheq.ErrStranger, textStranger}, {cheq.ErrNotReviewer, textNotReviewer}, {cheq.ErrSettled, textSettled},
		{cheq.ErrMessage, textMessage}, {cheq.ErrShown, textMessage}, {cheq.ErrNotFound, textMessage}, {cheq.ErrText, textReason},
		{cheq.ErrConfirm, textConfirm}, {cheq.ErrTooMany, textOften},
	} {
		if errors.Is(err, known.is) {
			return known.text, true
		}
	}
	return cheq.Text{}, false
}

// tell explains to who sent an event what became of it: once for each event,
// and not too often. In a thread of the message that was answered, or, where
// there is none, in reply to the event.
func (c *Channel) tell(ctx context.Context, e *received, message string, text cheq.Text) {
	if !c.told.allow(e.Sender, c.config.Now()) {
		c.config.Log.Warn("somebody is told no more for now", "sender", e.Sender, "event", e.ID)
		return
	}
	rel := &relation{InReplyTo: &replied{e.ID}}
	if message != "" {
		rel = &relation{Type: string(event.RelThread), Event: message, FallingBack: true, InReplyTo: &replied{message}}
	}
	body := e.Sender + ": " + text.EN + " " + text.ZH
	n := notice{Type: event.MsgNotice, Body: body, Format: event.FormatHTML, FormattedBody: html.EscapeString(body), RelatesTo: rel}
	if _, err := c.put(ctx, e.Room, event.EventMessage.Type, transaction("tell", e.ID), n); err != nil {
		c.config.Log.Warn("an explanation was not sent", "room", e.Room, "event", e.ID, "error", err)
	}
}
