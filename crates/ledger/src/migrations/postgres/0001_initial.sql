-- The tables of the SQLite ledger, column by column, in the schema `mloop`. Moments are RFC 3339
-- texts in UTC with nine digits of fraction, so that they sort as texts byte by byte, and keep the
-- nanoseconds that PostgreSQL's own type would cut off; those of leases and deliveries are seconds since
-- 1970 by the server's clock. `body` is the whole record as it was written; the other columns are what
-- is searched by, or of use to people.

CREATE TABLE runs (
    run_id       TEXT COLLATE "C" PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL,
    model        TEXT COLLATE "C" NOT NULL,
    target       TEXT COLLATE "C" NOT NULL,
    version      TEXT COLLATE "C",
    window_start TEXT COLLATE "C",
    window_end   TEXT COLLATE "C",
    as_of        TEXT COLLATE "C" NOT NULL,
    moment       TEXT COLLATE "C" NOT NULL, -- window_end, else as_of
    outcome      TEXT COLLATE "C" NOT NULL,
    body         JSON NOT NULL
);
CREATE INDEX runs_by_subject ON runs (kind, model, target, moment);

-- Findings of monitoring runs.
CREATE TABLE verdicts (
    run_id    TEXT COLLATE "C" NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    position  BIGINT NOT NULL,
    monitor   TEXT COLLATE "C" NOT NULL,
    "check"   TEXT COLLATE "C" NOT NULL,
    "column"  TEXT COLLATE "C",
    "group"   TEXT COLLATE "C",
    method    TEXT COLLATE "C" NOT NULL,
    value     DOUBLE PRECISION,
    lower     DOUBLE PRECISION,
    upper     DOUBLE PRECISION,
    threshold DOUBLE PRECISION,
    n         BIGINT NOT NULL,
    status    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, position)
);
CREATE INDEX verdicts_by_status ON verdicts (status, monitor);

CREATE TABLE episodes (
    id             TEXT COLLATE "C" PRIMARY KEY,
    model          TEXT COLLATE "C" NOT NULL,
    target         TEXT COLLATE "C" NOT NULL,
    serving        TEXT COLLATE "C",
    attempt        BIGINT NOT NULL,
    opened_at      TEXT COLLATE "C" NOT NULL,
    closed_at      TEXT COLLATE "C",
    outcome        TEXT COLLATE "C",
    version_number BIGINT,
    version_digest TEXT COLLATE "C",
    body           JSON NOT NULL
);
CREATE INDEX episodes_by_subject ON episodes (model, target, opened_at);

CREATE TABLE jobs (
    id          TEXT COLLATE "C" PRIMARY KEY,
    episode     TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES episodes (id),
    state       TEXT COLLATE "C" NOT NULL,
    submissions BIGINT NOT NULL
);

-- The episode is no foreign key: a registry serves several targets, each with a ledger perhaps.
CREATE TABLE model_versions (
    model      TEXT COLLATE "C" NOT NULL,
    number     BIGINT NOT NULL,
    digest     TEXT COLLATE "C" NOT NULL,
    created_at TEXT COLLATE "C" NOT NULL,
    source     TEXT COLLATE "C" NOT NULL,
    episode    TEXT COLLATE "C",
    body       JSON NOT NULL,
    PRIMARY KEY (model, number)
);

CREATE TABLE deployments (
    id        TEXT COLLATE "C" PRIMARY KEY,
    model     TEXT COLLATE "C" NOT NULL,
    target    TEXT COLLATE "C" NOT NULL,
    number    BIGINT NOT NULL,
    digest    TEXT COLLATE "C" NOT NULL,
    attempt   BIGINT NOT NULL,
    opened_at TEXT COLLATE "C" NOT NULL,
    closed_at TEXT COLLATE "C",
    verdict   TEXT COLLATE "C",
    body      JSON NOT NULL
);
CREATE INDEX deployments_by_subject ON deployments (model, target, opened_at);

CREATE TABLE deployment_journal (
    deployment TEXT COLLATE "C" NOT NULL REFERENCES deployments (id),
    position   BIGINT NOT NULL, -- of the step among all steps
    step       TEXT COLLATE "C" NOT NULL,
    phase      TEXT COLLATE "C" NOT NULL CHECK (phase IN ('intent', 'outcome')),
    at         TEXT COLLATE "C" NOT NULL,
    body       JSON NOT NULL,
    PRIMARY KEY (deployment, position, phase)
);

-- A lease that was given back keeps its row, so that its numbers go on ascending.
CREATE TABLE leases (
    name       TEXT COLLATE "C" PRIMARY KEY,
    holder     TEXT COLLATE "C",
    fence      BIGINT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);

CREATE TABLE profile_schemas (
    digest TEXT COLLATE "C" PRIMARY KEY,
    model  TEXT COLLATE "C" NOT NULL,
    body   JSON NOT NULL
);

CREATE TABLE profiles (
    model        TEXT COLLATE "C" NOT NULL,
    target       TEXT COLLATE "C" NOT NULL,
    version      TEXT COLLATE "C" NOT NULL,
    window_start TEXT COLLATE "C" NOT NULL,
    window_end   TEXT COLLATE "C" NOT NULL,
    revision     BIGINT NOT NULL,
    schema       TEXT COLLATE "C" NOT NULL REFERENCES profile_schemas (digest),
    digest       TEXT COLLATE "C" NOT NULL,
    rows         BIGINT NOT NULL,
    as_of        TEXT COLLATE "C" NOT NULL,
    body         JSON NOT NULL,
    PRIMARY KEY (model, target, version, window_start, window_end, revision)
);

CREATE TABLE outbox (
    seq  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id   TEXT COLLATE "C" NOT NULL UNIQUE,
    body JSON NOT NULL
);

CREATE TABLE deliveries (
    receiver     TEXT COLLATE "C" NOT NULL,
    message      BIGINT NOT NULL REFERENCES outbox (seq),
    delivered_at DOUBLE PRECISION,
    PRIMARY KEY (receiver, message)
);
CREATE INDEX deliveries_waiting ON deliveries (receiver, message) WHERE delivered_at IS NULL;
