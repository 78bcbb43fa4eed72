-- Calls that ask for a change of production, of each run that was about to make one. One that never
-- returned to its run may come late.

CREATE TABLE change_calls (
    deployment   TEXT COLLATE "C" NOT NULL REFERENCES deployments (id),
    position     BIGINT NOT NULL, -- of the step among all steps
    fence        BIGINT NOT NULL,
    step         TEXT COLLATE "C" NOT NULL,
    announced_at TEXT COLLATE "C" NOT NULL,
    returned_at  TEXT COLLATE "C",
    body         JSON NOT NULL,
    PRIMARY KEY (deployment, position, fence)
);
CREATE INDEX change_calls_unreturned ON change_calls (deployment) WHERE returned_at IS NULL;
