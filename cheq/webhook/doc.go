// Package webhook shows cases to programs: it posts CloudEvents to configured
// addresses, and takes answers that those send back.
//
// What always holds:
//
//   - Both directions are signed with the hook's own secret over the time and
//     the raw body, and what is older than five minutes is refused.
//   - Calls reach public addresses only, unless a hook is told otherwise. Each
//     address is looked at when it is dialled, so a name that changes its
//     address in between reaches nothing either. Redirects are not followed.
//   - An answer counts once by its event's id, for the cases that were sent to
//     the hook whose secret signed it.
package webhook
