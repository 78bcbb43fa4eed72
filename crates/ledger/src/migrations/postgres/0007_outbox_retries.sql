-- What cannot be delivered delays no other message: when it is due again (0: it was never tried), how often
-- its receiver refused it, and when it was given up. Seconds since 1970, as `delivered_at`.

ALTER TABLE deliveries ADD COLUMN due_at DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN refusals BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN given_up_at DOUBLE PRECISION;
