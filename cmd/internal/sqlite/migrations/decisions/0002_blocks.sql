-- Decision records that came many at a time, compressed together: one row costs
-- as much as one record does in audit. An id is in one of both tables, and in
-- one block. All ids of a block begin with the same seven bytes, which is half
-- a minute of ULIDs, so that few blocks overlap.
CREATE TABLE blocks (
    number   INTEGER PRIMARY KEY,
    first    TEXT NOT NULL,    -- the least id
    last     TEXT NOT NULL,    -- the greatest
    earliest INTEGER NOT NULL, -- the least time
    latest   INTEGER NOT NULL, -- the greatest
    names    BLOB NOT NULL,    -- marks of whom and what the records name
    ids      BLOB NOT NULL,    -- marks of their ids
    data     BLOB NOT NULL     -- the records
) STRICT;
CREATE INDEX blocks_by_first ON blocks (first, last, earliest, latest);
CREATE INDEX blocks_by_last ON blocks (last, first, earliest, latest);
