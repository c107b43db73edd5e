-- What people are asked, and the timelines of it. A case's body is its JSON;
-- the columns beside are for finding it. due is null where nothing is to come.
CREATE TABLE cases (
    id        TEXT COLLATE "C" PRIMARY KEY,
    tenant    TEXT COLLATE "C" NOT NULL,
    requester TEXT COLLATE "C" NOT NULL,
    state     TEXT COLLATE "C" NOT NULL,
    digest    TEXT COLLATE "C" NOT NULL,
    opened_at TIMESTAMPTZ NOT NULL,
    due       TIMESTAMPTZ,
    body      BYTEA NOT NULL
);
CREATE INDEX cases_by_requester ON cases (tenant, requester, opened_at);
CREATE INDEX cases_by_state ON cases (state, tenant, id);
CREATE INDEX cases_by_due ON cases (due) WHERE due IS NOT NULL;
CREATE UNIQUE INDEX cases_asked ON cases (tenant, requester, digest) WHERE state = 'pending';

CREATE TABLE case_events (
    case_id TEXT COLLATE "C" NOT NULL REFERENCES cases (id),
    number  INTEGER NOT NULL,
    body    BYTEA NOT NULL,
    PRIMARY KEY (case_id, number)
);
