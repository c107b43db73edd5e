-- Where cases are shown: one message a case and place, and which version of
-- the case it shows. due is 0 where nothing is to be done.
CREATE TABLE case_deliveries (
    case_id  TEXT NOT NULL REFERENCES cases (id),
    channel  TEXT NOT NULL,
    address  TEXT NOT NULL,
    message  TEXT NOT NULL,
    wanted   INTEGER NOT NULL,
    shown    INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    error    TEXT NOT NULL,
    due      INTEGER NOT NULL,
    PRIMARY KEY (case_id, channel, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX case_deliveries_by_due ON case_deliveries (channel, due) WHERE due > 0;

-- Answers that were given in a channel: each counts once.
CREATE TABLE case_answers (
    channel TEXT NOT NULL,
    event   TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (channel, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX case_answers_by_time ON case_answers (channel, at);

-- Short codes that bind platform ids to subjects, by their hash; each is used
-- once.
CREATE TABLE identity_codes (
    hash       BLOB PRIMARY KEY,
    tenant     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
