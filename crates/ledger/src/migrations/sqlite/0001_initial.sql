-- Moments are RFC 3339 texts in UTC with nine digits of fraction, so that they sort as texts;
-- those of leases and deliveries are seconds since 1970 by SQLite's own clock. `body` is the whole
-- record as JSON; the other columns are what is searched by, or of use to people.

CREATE TABLE runs (
    run_id       TEXT PRIMARY KEY,
    kind         TEXT NOT NULL,
    model        TEXT NOT NULL,
    target       TEXT NOT NULL,
    version      TEXT,
    window_start TEXT,
    window_end   TEXT,
    as_of        TEXT NOT NULL,
    moment       TEXT NOT NULL, -- window_end, else as_of
    outcome      TEXT NOT NULL,
    body         TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_subject ON runs (kind, model, target, moment);

-- Findings of monitoring runs.
CREATE TABLE verdicts (
    run_id    TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    monitor   TEXT NOT NULL,
    "check"   TEXT NOT NULL,
    "column"  TEXT,
    "group"   TEXT,
    method    TEXT NOT NULL,
    value     REAL,
    lower     REAL,
    upper     REAL,
    threshold REAL,
    n         INTEGER NOT NULL,
    status    TEXT NOT NULL,
    PRIMARY KEY (run_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX verdicts_by_status ON verdicts (status, monitor);

CREATE TABLE episodes (
    id             TEXT PRIMARY KEY,
    model          TEXT NOT NULL,
    target         TEXT NOT NULL,
    serving        TEXT,
    attempt        INTEGER NOT NULL,
    opened_at      TEXT NOT NULL,
    closed_at      TEXT,
    outcome        TEXT,
    version_number INTEGER,
    version_digest TEXT,
    body           TEXT NOT NULL
) STRICT;
CREATE INDEX episodes_by_subject ON episodes (model, target, opened_at);

CREATE TABLE jobs (
    id          TEXT PRIMARY KEY,
    episode     TEXT NOT NULL UNIQUE REFERENCES episodes (id),
    state       TEXT NOT NULL,
    submissions INTEGER NOT NULL
) STRICT;

-- The episode is no foreign key: a registry serves several targets, each with a ledger perhaps.
CREATE TABLE model_versions (
    model      TEXT NOT NULL,
    number     INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    created_at TEXT NOT NULL,
    source     TEXT NOT NULL,
    episode    TEXT,
    body       TEXT NOT NULL,
    PRIMARY KEY (model, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE deployments (
    id        TEXT PRIMARY KEY,
    model     TEXT NOT NULL,
    target    TEXT NOT NULL,
    number    INTEGER NOT NULL,
    digest    TEXT NOT NULL,
    attempt   INTEGER NOT NULL,
    opened_at TEXT NOT NULL,
    closed_at TEXT,
    verdict   TEXT,
    body      TEXT NOT NULL
) STRICT;
CREATE INDEX deployments_by_subject ON deployments (model, target, opened_at);

CREATE TABLE deployment_journal (
    deployment TEXT NOT NULL REFERENCES deployments (id),
    position   INTEGER NOT NULL, -- of the step among all steps
    step       TEXT NOT NULL,
    phase      TEXT NOT NULL CHECK (phase IN ('intent', 'outcome')),
    at         TEXT NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (deployment, position, phase)
) STRICT, WITHOUT ROWID;

-- A lease that was given back keeps its row, so that its numbers go on ascending.
CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    holder     TEXT,
    fence      INTEGER NOT NULL,
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE profile_schemas (
    digest TEXT PRIMARY KEY,
    model  TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE profiles (
    model        TEXT NOT NULL,
    target       TEXT NOT NULL,
    version      TEXT NOT NULL,
    window_start TEXT NOT NULL,
    window_end   TEXT NOT NULL,
    revision     INTEGER NOT NULL,
    schema       TEXT NOT NULL REFERENCES profile_schemas (digest),
    digest       TEXT NOT NULL,
    rows         INTEGER NOT NULL,
    as_of        TEXT NOT NULL,
    body         TEXT NOT NULL,
    PRIMARY KEY (model, target, version, window_start, window_end, revision)
) STRICT;

CREATE TABLE outbox (
    seq  INTEGER PRIMARY KEY,
    id   TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE deliveries (
    receiver     TEXT NOT NULL,
    message      INTEGER NOT NULL REFERENCES outbox (seq),
    delivered_at REAL,
    PRIMARY KEY (receiver, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_waiting ON deliveries (receiver, message) WHERE delivered_at IS NULL;
