-- Where a release of a repository came from. The default lets a program that
-- does not know the columns publish.
ALTER TABLE releases
    ADD COLUMN source TEXT COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN commit_id TEXT COLLATE "C" NOT NULL DEFAULT '';

-- Signed manifests. An audience, which may be long, is kept as its SHA-256.
CREATE TABLE seals (
    release  BIGINT NOT NULL,
    audience BYTEA NOT NULL,
    key_id   TEXT COLLATE "C" NOT NULL,
    signed   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (release, audience, key_id)
);

-- PEPs as their nodes saw them: what filters ask for in columns, and the whole
-- as JSON. Rows change every few seconds and no index holds what changes, so
-- that room on the page makes a change cheap.
CREATE TABLE peps (
    key       TEXT COLLATE "C" PRIMARY KEY,
    id        TEXT COLLATE "C" NOT NULL,
    tenant    TEXT COLLATE "C" NOT NULL,
    tenants   JSONB NOT NULL,
    labels    JSONB NOT NULL,
    connected BOOLEAN NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL,
    release   BIGINT NOT NULL, -- acknowledged
    position  BIGINT NOT NULL, -- acknowledged
    rejected  BIGINT NOT NULL, -- release of the newest rejection, or 0
    honours_until TIMESTAMPTZ NOT NULL,
    seen_at   TIMESTAMPTZ NOT NULL,
    body      TEXT COLLATE "C" NOT NULL
) WITH (fillfactor = 60);
CREATE INDEX peps_by_tenant ON peps (tenant, key);
CREATE INDEX peps_by_id ON peps (id, key);
