-- Signed manifests. An audience, which may be long, is kept as its SHA-256.
CREATE TABLE seals (
    release  INTEGER NOT NULL,
    audience BLOB NOT NULL,
    key_id   TEXT NOT NULL,
    signed   TEXT NOT NULL,
    PRIMARY KEY (release, audience, key_id)
) STRICT, WITHOUT ROWID;

-- PEPs as their nodes saw them: what filters ask for in columns, and the whole
-- as JSON. seen_at is microseconds since 1970, UTC.
CREATE TABLE peps (
    key       TEXT PRIMARY KEY,
    id        TEXT NOT NULL,
    tenant    TEXT NOT NULL,
    tenants   TEXT NOT NULL,
    labels    TEXT NOT NULL,
    connected INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    release   INTEGER NOT NULL, -- acknowledged
    position  INTEGER NOT NULL, -- acknowledged
    rejected  INTEGER NOT NULL, -- release of the newest rejection, or 0
    honours_until INTEGER NOT NULL,
    seen_at   INTEGER NOT NULL,
    body      TEXT NOT NULL
) STRICT;
CREATE INDEX peps_by_tenant ON peps (tenant, key);
CREATE INDEX peps_by_id ON peps (id, key);
