// Package spool keeps decision records safe between the decision and the
// database.
//
// A record is appended to a file, synced, and shipped to a sink in order. A
// strict append returns only after the sync; concurrent ones share it. A
// buffered append returns at once; its record is synced within 50 ms.
//
// What holds after a crash of the process: every record whose strict append
// returned nil is found at the next Open and shipped; of the buffered ones at
// most those of the last 50 ms are missing. The same holds after a power cut,
// if the disk keeps what it was told to sync. A record may reach the sink
// twice, never out of order with itself: the sink must know records by id.
//
// When a record cannot be kept, because the disk fails or too much waits to be
// shipped, a strict append fails with [ErrUnavailable], so that nothing is
// allowed that is not on record, and a buffered one counts it in [Stats].Lost.
// The next append tries the disk again, in a new file.
//
// The folder holds files of consecutive numbers. Each begins with a magic and
// goes on with frames: the length of the record (4 bytes, little endian), the
// CRC-32C over length and record, the record as JSON. A file is removed when
// the sink has taken all of it. The sink gets the newest records from memory,
// up to 8 MiB of them; older ones, and those that it failed to take, are read
// from the files again.
package spool
