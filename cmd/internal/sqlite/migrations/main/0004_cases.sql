-- What people are asked, and the timelines of it. A case's body is its JSON;
-- the columns beside are for finding it. due is 0 where nothing is to come.
CREATE TABLE cases (
    id        TEXT PRIMARY KEY,
    tenant    TEXT NOT NULL,
    requester TEXT NOT NULL,
    state     TEXT NOT NULL,
    digest    TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    due       INTEGER NOT NULL,
    body      BLOB NOT NULL
) STRICT;
CREATE INDEX cases_by_requester ON cases (tenant, requester, opened_at);
CREATE INDEX cases_by_state ON cases (state, tenant, id);
CREATE INDEX cases_by_due ON cases (due) WHERE due > 0;
CREATE UNIQUE INDEX cases_asked ON cases (tenant, requester, digest) WHERE state = 'pending';

CREATE TABLE case_events (
    case_id TEXT NOT NULL REFERENCES cases (id),
    number  INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (case_id, number)
) STRICT, WITHOUT ROWID;
