-- The verdict that a deployment is on its way back to.

ALTER TABLE deployments ADD COLUMN way_back TEXT COLLATE "C";
UPDATE deployments SET way_back = body ->> 'way_back';
