-- Times are microseconds since 1970, UTC. Text compares as bytes (BINARY).

-- The newest release and log position. Every writer holds the database's write
-- lock from before it reads this row, so numbers follow the order of commit.
CREATE TABLE head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    release  INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0);

CREATE TABLE log (
    position INTEGER PRIMARY KEY,
    kind     TEXT NOT NULL,
    key      TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    body     BLOB NOT NULL
) STRICT;

-- The newest log entry of each record.
CREATE TABLE records (
    kind     TEXT NOT NULL,
    key      TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    position INTEGER NOT NULL REFERENCES log,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_tenant ON records (kind, tenant, key);

CREATE TABLE documents (
    path       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    content    BLOB NOT NULL,
    deleted    INTEGER NOT NULL,
    draft      INTEGER NOT NULL,
    release    INTEGER NOT NULL,
    layer      TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    updated_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (path, version)
) STRICT;

CREATE TABLE blobs (
    digest BLOB PRIMARY KEY,
    data   BLOB NOT NULL
) STRICT;

CREATE TABLE releases (
    number     INTEGER PRIMARY KEY,
    digest     BLOB NOT NULL,
    restores   INTEGER NOT NULL,
    unreviewed INTEGER NOT NULL,
    author     TEXT NOT NULL,
    note       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE release_files (
    release INTEGER NOT NULL REFERENCES releases,
    path    TEXT NOT NULL,
    digest  BLOB NOT NULL REFERENCES blobs,
    size    INTEGER NOT NULL,
    PRIMARY KEY (release, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE grant_uses (
    grant_key TEXT NOT NULL,
    use_key   TEXT NOT NULL,
    PRIMARY KEY (grant_key, use_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE replays (
    caller      TEXT NOT NULL,
    key         TEXT NOT NULL,
    body_digest BLOB NOT NULL,
    status      INTEGER NOT NULL,
    response    BLOB NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT;
CREATE INDEX replays_by_time ON replays (at);

CREATE TABLE audit (
    id       TEXT PRIMARY KEY,
    at       INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    actor    TEXT NOT NULL,
    subject  TEXT NOT NULL,
    action   TEXT NOT NULL,
    resource TEXT NOT NULL,
    effect   TEXT NOT NULL,
    revision TEXT NOT NULL,
    body     TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_tenant ON audit (tenant, id);
CREATE INDEX audit_by_time ON audit (at);
