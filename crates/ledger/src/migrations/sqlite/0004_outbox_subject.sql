-- Whom a message is about: a loop sends its own messages only.

ALTER TABLE outbox ADD COLUMN model TEXT;
ALTER TABLE outbox ADD COLUMN target TEXT;
UPDATE outbox SET model = json_extract(body, '$.subject.model'),
                  target = json_extract(body, '$.subject.target');
