-- Where cases are shown: one message a case and place, and which version of
-- the case it shows. due is null where nothing is to be done.
CREATE TABLE case_deliveries (
    case_id  TEXT COLLATE "C" NOT NULL REFERENCES cases (id),
    channel  TEXT COLLATE "C" NOT NULL,
    address  TEXT COLLATE "C" NOT NULL,
    message  TEXT COLLATE "C" NOT NULL,
    wanted   INTEGER NOT NULL,
    shown    INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    error    TEXT COLLATE "C" NOT NULL,
    due      TIMESTAMPTZ,
    PRIMARY KEY (case_id, channel, address)
);
CREATE INDEX case_deliveries_by_due ON case_deliveries (channel, due) WHERE due IS NOT NULL;

-- Answers that were given in a channel: each counts once.
CREATE TABLE case_answers (
    channel TEXT COLLATE "C" NOT NULL,
    event   TEXT COLLATE "C" NOT NULL,
    at      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (channel, event)
);
CREATE INDEX case_answers_by_time ON case_answers (channel, at);

-- Short codes that bind platform ids to subjects, by their hash; each is used
-- once.
CREATE TABLE identity_codes (
    hash       BYTEA PRIMARY KEY,
    tenant     TEXT COLLATE "C" NOT NULL,
    subject    TEXT COLLATE "C" NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);
