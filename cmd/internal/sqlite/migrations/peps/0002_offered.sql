-- The newest release that a PEP was sent. The default lets a program that does
-- not know the column write.
ALTER TABLE peps ADD COLUMN offered INTEGER NOT NULL DEFAULT 0;
