-- Profiles are kept packed: one byte for the format (1: deflate), then the JSON that `body` held before;
-- `body` is `null` then. Windows that were merged into that of a day leave their last revision and its
-- digest, so that nobody counts them twice.

ALTER TABLE profiles ADD COLUMN packed BYTEA;

CREATE INDEX profiles_by_end ON profiles (model, target, window_end, window_start, version);

CREATE TABLE merged_profiles (
    model        TEXT COLLATE "C" NOT NULL,
    target       TEXT COLLATE "C" NOT NULL,
    version      TEXT COLLATE "C" NOT NULL,
    window_start TEXT COLLATE "C" NOT NULL,
    window_end   TEXT COLLATE "C" NOT NULL,
    revision     BIGINT NOT NULL,
    digest       TEXT COLLATE "C" NOT NULL,
    into_start   TEXT COLLATE "C" NOT NULL,
    into_end     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (model, target, version, window_start, window_end)
);
