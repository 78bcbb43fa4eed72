-- Evidence that a decision was made on stays readable when its window is judged again.

ALTER TABLE runs ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

-- Revisions of runs that are not the one in `runs`: those that were replaced, and repeats that came
-- too late to replace one. Numbers ascend in the order of writing.
CREATE TABLE run_revisions (
    run_id   TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    as_of    TEXT NOT NULL,
    outcome  TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (run_id, revision)
) STRICT;
