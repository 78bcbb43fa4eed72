-- The verdict that a deployment is on its way back to.

ALTER TABLE deployments ADD COLUMN way_back TEXT;
UPDATE deployments SET way_back = json_extract(body, '$.way_back');
