// Package feishu simulates the Feishu open platform as far as messages with
// cards, their callbacks and the long connection go: what an app calls is an
// [http.Handler], what people and administrators do are methods of [Sim], and
// both lie next to each other over HTTP in cmd/xiezhi-sim. It shares no code
// with what is tested against it and uses no SDK of the vendor.
//
//	clock := world.StoppedClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
//	sim := feishu.New(feishu.Config{Clock: clock})
//	server, err := world.Listen("127.0.0.1:0", sim) // server.URL() is the base URL
//	sim.AddApp(feishu.App{ID: "cli_0123456789abcdef", Secret: "…", EncryptKey: "…", VerificationToken: "…", CallbackURL: "…"})
//	sim.AddUser(feishu.User{Name: "alice", Language: "en"})
//	chat, err := sim.AddChat(feishu.Chat{Members: []string{"alice"}, Apps: []string{"cli_0123456789abcdef"}})
//	card, err := sim.AwaitMessage(ctx, func(m feishu.Message) bool { return m.ChatID == chat })
//	seen, err := sim.Tap(ctx, feishu.Tap{User: "alice", Message: card.ID, Button: "approve"})
//
// # Where each check comes from
//
// Pages are those of open.feishu.cn/document, named by the end of their path.
//
//   - Access tokens (7200 s, the same one while 30 minutes of it are left, wrong
//     secret 10014) and missing or bad bearers (99991661, 99991663):
//     auth-v3/auth/tenant_access_token_internal, api-call-guide/generic-error-code.
//   - Frequency: 50 a second and 1000 a minute for an API and app, 429 with
//     99991400 and x-ogw-ratelimit-*: api-call-guide/frequency-control. Five a
//     second to one chat and for one message, 230020: im-v1/message/create, …/reply
//     and im-v1/message-card/patch.
//   - Sending: receive_id_type and prefixes, content as JSON in a string, 30 KB
//     for a card and 150 KB for a text (230025), uuid within an hour, 230001 with
//     "ext=…", 230002, 230013: im-v1/message/create, trouble-shooting/how-to-resolve-error-230001.
//   - Updating: the sender's app, not recalled (230011), 14 days (230031),
//     update_multi declared before and after, "This message is NOT a card":
//     im-v1/message-card/patch. A card that cannot be built is 230099 with an
//     inner code (200621, 11310): the same page, and reports of users.
//   - Cards of schema 2.0: unknown tags and attributes are errors, update_multi is
//     true only, no tag "action", no i18n_elements, and 14 days for updates
//     and taps alike, where the old structure has 14 and 30:
//     feishu-cards/card-json-v2-breaking-changes-release-notes. Elements:
//     card-json-v2-components/component-json-v2-overview.
//   - Callbacks: 3 seconds, no redelivery, an error before the user's eyes:
//     callback-subscription/callback-overview. Their shape and the shape of the
//     answer: feishu-cards/card-callback-communication. 200340, 200672 and 200673:
//     the same page as users cite it.
//   - Delayed updates: 30 minutes, two uses, after the answer only, 300090 for an
//     old card without open_ids: im-v1/message-card/delay-update-message-card.
//   - Encryption, signature, the challenge: event-subscription-configure-/
//     request-url-configuration-case and encrypt-key-encryption-configuration-case.
//   - Events are sent again after 15 s, 5 min, 1 h and 6 h: event-subscription-guide/overview,
//     the numbers as users cite them.
//   - The long connection (endpoint, codes, frames, headers, handshake headers,
//     ping and pong, fragments): the constants and the frame of the vendor's
//     oapi-sdk-go v3.11.0, ws. 50 connections, one random connection for a push:
//     event-subscription-configure-/request-url-configuration-case.
//
// # What no document confirms
//
//   - Codes: 10003 for an unknown app; 230012 for another app's message; 230001
//     for a missing update_multi; 99992402 and 9499 for malformed parameters;
//     300010 for delayed updates; 200530 and 200830 inside of 230099; 200341,
//     200343 and 200671 on a tap. The HTTP status of an error is 400 throughout.
//   - header.create_time is in microseconds for card.action.trigger and in
//     milliseconds for messages.
//   - A refused handshake has the status 403.
//   - A callback that was not answered in time leaves its token for delayed
//     updates usable.
//   - Whether events over the long connection are sent again like those over HTTP.
//   - Which attributes an element of schema 2.0 may have: only those of the card
//     itself, its config, header and body, of buttons and of text objects are
//     checked here; 200 elements at most; names unique in forms.
//   - That a schema 2.0 card is taken in the answer to a tap is documented; one
//     user reports that it was refused with 200673 where the card on the screen was
//     of the old structure, and so it is here.
package feishu
