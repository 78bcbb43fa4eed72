-- What a run of deployment was about: whether a verdict was told is asked for ever after.

ALTER TABLE runs ADD COLUMN deployment TEXT COLLATE "C";
UPDATE runs SET deployment = body #>> '{body,deployment}' WHERE kind = 'deployment';
CREATE INDEX runs_by_deployment ON runs (deployment, outcome);
