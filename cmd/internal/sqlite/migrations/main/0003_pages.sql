-- Releases list their files by pages, which they share: a release that changes
-- one file of many writes one page.
CREATE TABLE pages (
    id     INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE -- of what it lists
) STRICT;

CREATE TABLE page_files (
    page   INTEGER NOT NULL REFERENCES pages,
    path   TEXT NOT NULL,
    digest BLOB NOT NULL REFERENCES blobs,
    size   INTEGER NOT NULL,
    PRIMARY KEY (page, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE release_pages (
    release INTEGER NOT NULL REFERENCES releases,
    page    INTEGER NOT NULL REFERENCES pages,
    PRIMARY KEY (release, page)
) STRICT, WITHOUT ROWID;

-- Releases of before keep their lists. A program that does not know pages reads
-- and writes all releases by the name that the lists had.
ALTER TABLE release_files RENAME TO release_lists;
CREATE VIEW release_files AS
    SELECT release, path, digest, size FROM release_lists
    UNION ALL
    SELECT release, path, digest, size FROM release_pages JOIN page_files USING (page);
CREATE TRIGGER release_files_insert INSTEAD OF INSERT ON release_files BEGIN
    INSERT INTO release_lists (release, path, digest, size) VALUES (NEW.release, NEW.path, NEW.digest, NEW.size);
END;
