-- Releases list their files by pages, which they share: a release that changes
-- one file of many writes one page.
CREATE TABLE pages (
    id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest BYTEA NOT NULL UNIQUE -- of what it lists
);

CREATE TABLE page_files (
    page   BIGINT NOT NULL REFERENCES pages,
    path   TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL REFERENCES blobs,
    size   BIGINT NOT NULL,
    PRIMARY KEY (page, path)
);

CREATE TABLE release_pages (
    release BIGINT NOT NULL REFERENCES releases,
    page    BIGINT NOT NULL REFERENCES pages,
    PRIMARY KEY (release, page)
);

-- Releases of before keep their lists. A program that does not know pages reads
-- and writes all releases by the name that the lists had.
ALTER TABLE release_files RENAME TO release_lists;
CREATE VIEW release_files AS
    SELECT release, path, digest, size FROM release_lists
    UNION ALL
    SELECT release, path, digest, size FROM release_pages JOIN page_files USING (page);
CREATE RULE release_files_insert AS ON INSERT TO release_files DO INSTEAD
    INSERT INTO release_lists (release, path, digest, size) VALUES (NEW.release, NEW.path, NEW.digest, NEW.size);
