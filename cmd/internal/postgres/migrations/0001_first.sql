-- Text compares as bytes: every column says so, whatever the database's default.

-- The newest release and log position. Every writer locks this row before it
-- reads anything, so numbers follow the order of commit.
CREATE TABLE head (
    one      INT PRIMARY KEY CHECK (one = 1),
    release  BIGINT NOT NULL,
    position BIGINT NOT NULL
);
INSERT INTO head VALUES (1, 0, 0);

CREATE TABLE log (
    position BIGINT PRIMARY KEY,
    kind     TEXT COLLATE "C" NOT NULL,
    key      TEXT COLLATE "C" NOT NULL,
    tenant   TEXT COLLATE "C" NOT NULL,
    at       TIMESTAMPTZ NOT NULL,
    body     BYTEA NOT NULL
);

-- The newest log entry of each record.
CREATE TABLE records (
    kind     TEXT COLLATE "C" NOT NULL,
    key      TEXT COLLATE "C" NOT NULL,
    tenant   TEXT COLLATE "C" NOT NULL,
    position BIGINT NOT NULL REFERENCES log,
    PRIMARY KEY (kind, key)
);
CREATE INDEX records_by_tenant ON records (kind, tenant, key);

CREATE TABLE documents (
    path       TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    content    BYTEA NOT NULL,
    deleted    BOOLEAN NOT NULL,
    draft      BOOLEAN NOT NULL,
    release    BIGINT NOT NULL,
    layer      TEXT COLLATE "C" NOT NULL,
    tenant     TEXT COLLATE "C" NOT NULL,
    updated_by TEXT COLLATE "C" NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (path, version)
);

CREATE TABLE blobs (
    digest BYTEA PRIMARY KEY,
    data   BYTEA NOT NULL
);

CREATE TABLE releases (
    number     BIGINT PRIMARY KEY,
    digest     BYTEA NOT NULL,
    restores   BIGINT NOT NULL,
    unreviewed BOOLEAN NOT NULL,
    author     TEXT COLLATE "C" NOT NULL,
    note       TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE release_files (
    release BIGINT NOT NULL REFERENCES releases,
    path    TEXT COLLATE "C" NOT NULL,
    digest  BYTEA NOT NULL REFERENCES blobs,
    size    BIGINT NOT NULL,
    PRIMARY KEY (release, path)
);

CREATE TABLE grant_uses (
    grant_key TEXT COLLATE "C" NOT NULL,
    use_key   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (grant_key, use_key)
);

CREATE TABLE replays (
    caller      TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    body_digest BYTEA NOT NULL,
    status      BIGINT NOT NULL,
    response    BYTEA NOT NULL,
    at          TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (caller, key)
);
CREATE INDEX replays_by_time ON replays (at);

CREATE TABLE audit (
    id       TEXT COLLATE "C" PRIMARY KEY,
    at       TIMESTAMPTZ NOT NULL,
    kind     TEXT COLLATE "C" NOT NULL,
    tenant   TEXT COLLATE "C" NOT NULL,
    actor    TEXT COLLATE "C" NOT NULL,
    subject  TEXT COLLATE "C" NOT NULL,
    action   TEXT COLLATE "C" NOT NULL,
    resource TEXT COLLATE "C" NOT NULL,
    effect   TEXT COLLATE "C" NOT NULL,
    revision TEXT COLLATE "C" NOT NULL,
    body     TEXT COLLATE "C" NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);
CREATE INDEX audit_by_time ON audit (at);

-- Decision records. The subject rides along in the index so that looking for
-- one reads the index only; an index led by it would cost every insert a page
-- of its own.
CREATE TABLE decisions (LIKE audit);
ALTER TABLE decisions ADD PRIMARY KEY (id);
CREATE INDEX decisions_by_tenant ON decisions (tenant, id, subject);
CREATE INDEX decisions_by_time ON decisions (at);
