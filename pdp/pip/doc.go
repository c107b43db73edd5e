// Package pip holds attribute sources (policy information points, X1): where
// trusted attributes come from that neither the caller nor the directory
// knows.
//
// A source answers for one attribute of one entity at a time and is asked only
// when an applicable policy declares that it reads it. [Static] answers out of
// a file that the operator writes, [HTTP] asks a program.
//
// An HTTP source is sent {"tenant": "acme", "entity": {"type": "ecs.instance",
// "id": "i-1"}, "name": "resource.owners"} by POST and answers 200 with
// {"found": true, "value": …} or {"found": false}, and nothing else but what it
// repeats of the question. What always holds:
//
//   - An answer is used for one span of time from when it was asked for, and
//     never after it, whatever has become of the source. Failures are not kept.
//   - Calls reach the configured address and none that it redirects to. Each
//     address is looked at as it is dialled.
//   - A source that fails is left alone for some seconds and costs no time
//     meanwhile: what reads its attributes fails at once.
package pip
