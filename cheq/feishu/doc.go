// Package feishu shows cases in Feishu (Lark) as cards, and takes the answers
// that people give there: by callbacks over HTTP, or over the long connection
// that Feishu's SDK keeps.
//
// What always holds:
//
//   - A callback is believed for its signature over the raw body, which is
//     checked before anything of it is decrypted; what comes over the long
//     connection for TLS and the app secret. Both must name this app and this
//     Feishu tenant, and be fresh.
//   - What people wrote is plain text in a card, never markup, and shows every
//     character that would otherwise be invisible.
//   - An answer is recorded before Feishu hears that it was.
//
// The SDK makes the REST calls and keeps the connection. Its event dispatcher
// only hands on payloads: it knows no freshness, compares secrets with ==, and
// without a key takes what nobody signed.
package feishu
