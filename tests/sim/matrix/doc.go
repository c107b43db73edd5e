// Package matrix simulates a Matrix homeserver as far as rooms, messages and
// reactions go, with Synapse's answers where servers differ: what clients call
// is an [http.Handler], what people, other servers and bad luck do are methods
// of [Sim], and both lie next to each other over HTTP in cmd/xiezhi-sim. It
// shares no code with what is tested against it and uses no client library.
//
//	clock := world.StoppedClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
//	sim := matrix.New(matrix.Config{Clock: clock, SharedSecret: "…"})
//	server, err := world.Listen("127.0.0.1:0", sim) // server.URL() is the homeserver's URL
//	bot, err := sim.AddUser("bot", "password")      // logs in over HTTP and creates a room
//	alice, err := sim.AddUser("alice", "password")
//	err = sim.Join(alice, room)
//	notice, err := sim.AwaitEvent(ctx, room, func(e matrix.Event) bool { return e.Type == "m.room.message" })
//	_, err = sim.React(alice, room, notice.ID, "✅")
//
// On a stopped clock a sync waits until something happens, its client leaves,
// or the clock is moved past its timeout.
//
// # Where each check comes from
//
// Section names are those of the client-server API, spec.matrix.org/latest/client-server-api.
//
//   - Registration with a nonce and an HMAC-SHA1 over nonce, user, password and
//     notadmin, with NUL between: Synapse's manual, admin_api/register_api.
//   - Login by password and by token, whoami, M_MISSING_TOKEN, M_UNKNOWN_TOKEN: "Client
//     Authentication"; a second login of one device ends the first: "Relationship
//     between access tokens and devices".
//   - createRoom, presets, invite, join, leave, kick: "Rooms"; the default power
//     levels and "invite": 0 of private rooms: Synapse's handlers/room.py.
//   - One transaction id of one device and path gives one event id: "Transaction identifiers".
//   - Annotations, 400 M_DUPLICATE_ANNOTATION for the same key twice: "Annotations
//     and reactions", seen on Synapse 1.160. A relation to an unknown event is
//     400 M_UNKNOWN: Synapse's handlers/message.py.
//   - Replacements count from the event's own sender only, and the server takes
//     all: "Event replacements". Redactions empty the content: "Redactions".
//   - Power levels, 403 M_FORBIDDEN for outsiders: the authorization rules of room version 10.
//   - sync with since, timeout, filter, limited timelines and prev_batch:
//     "Syncing". An empty since is 400, seen on Synapse 1.160.
//   - 429 M_LIMIT_EXCEEDED with retry_after_ms and Retry-After: "Rate limiting";
//     the bucket is Synapse's rc_message.
//   - m.federate: false keeps users of other servers out: authorization rules.
//
// # What no document confirms
//
//   - The errcode of an empty or malformed since, M_UNKNOWN.
//   - The texts of errors, which no client should read.
//   - How long a transaction id is remembered: for good, here; a day in Synapse.
//   - Which of top level and content carries "redacts": both, here.
//
// # What there is not
//
// Encryption (events of type m.room.encrypted pass like all others), media,
// presence, receipts, typing, account data, aliases, joining by another
// server's name, state resolution, room versions other than 10, and changing
// memberships by PUT of m.room.member.
package matrix
