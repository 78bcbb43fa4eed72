-- Profiles are kept packed: one byte for the format (1: deflate), then the JSON that `body` held before;
-- `body` is `null` then. Windows that were merged into that of a day leave their last revision and its
-- digest, so that nobody counts them twice.

ALTER TABLE profiles ADD COLUMN packed BLOB;

CREATE INDEX profiles_by_end ON profiles (model, target, window_end, window_start, version);

CREATE TABLE merged_profiles (
    model        TEXT NOT NULL,
    target       TEXT NOT NULL,
    version      TEXT NOT NULL,
    window_start TEXT NOT NULL,
    window_end   TEXT NOT NULL,
    revision     INTEGER NOT NULL,
    digest       TEXT NOT NULL,
    into_start   TEXT NOT NULL,
    into_end     TEXT NOT NULL,
    PRIMARY KEY (model, target, version, window_start, window_end)
) STRICT, WITHOUT ROWID;
