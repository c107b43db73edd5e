// Package matrix shows cases in Matrix rooms, and takes what people answer
// there: reactions, replies, and decision events of clients that know Xiezhi.
//
// What always holds:
//
//   - The homeserver vouches for who sent an event, so only people of our own
//     homeserver count, and only while they are in the room.
//   - An answer is bound to one notice: the event that it refers to is read
//     back from the homeserver, must be the bot's own, and says which case it
//     shows and the digest of what it shows.
//   - Nothing that people wrote becomes markup or pings anybody.
//   - How far the stream was read is stored after what was read was taken.
//     After a crash answers are read again, which is harmless: each counts
//     once by its event's id.
//
// Rooms that are encrypted are refused: this version cannot encrypt.
package matrix
