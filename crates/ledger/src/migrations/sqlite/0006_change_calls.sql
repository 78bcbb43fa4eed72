-- Calls that ask for a change of production, of each run that was about to make one. One that never
-- returned to its run may come late.

CREATE TABLE change_calls (
    deployment   TEXT NOT NULL REFERENCES deployments (id),
    position     INTEGER NOT NULL, -- of the step among all steps
    fence        INTEGER NOT NULL,
    step         TEXT NOT NULL,
    announced_at TEXT NOT NULL,
    returned_at  TEXT,
    body         TEXT NOT NULL,
    PRIMARY KEY (deployment, position, fence)
) STRICT;
CREATE INDEX change_calls_unreturned ON change_calls (deployment) WHERE returned_at IS NULL;
