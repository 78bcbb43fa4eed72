-- Evidence that a decision was made on stays readable when its window is judged again.

ALTER TABLE runs ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

-- Revisions of runs that are not the one in `runs`: those that were replaced, and repeats that came
-- too late to replace one. Numbers ascend in the order of writing.
CREATE TABLE run_revisions (
    run_id   TEXT COLLATE "C" NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    as_of    TEXT COLLATE "C" NOT NULL,
    outcome  TEXT COLLATE "C" NOT NULL,
    body     JSON NOT NULL,
    PRIMARY KEY (run_id, revision)
);
