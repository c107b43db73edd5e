-- Decision records; see the main file for how times and text are kept.
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
-- The subject rides along so that looking for one reads the index only; an
-- index led by it would cost every insert a page of its own.
CREATE INDEX audit_by_tenant ON audit (tenant, id, subject);
CREATE INDEX audit_by_time ON audit (at);
