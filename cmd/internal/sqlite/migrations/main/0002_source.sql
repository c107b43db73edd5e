-- Where a release of a repository came from. The default lets a program that
-- does not know the columns publish.
ALTER TABLE releases ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE releases ADD COLUMN commit_id TEXT NOT NULL DEFAULT '';
