-- Whom a message is about: a loop sends its own messages only.

ALTER TABLE outbox ADD COLUMN model TEXT COLLATE "C";
ALTER TABLE outbox ADD COLUMN target TEXT COLLATE "C";
UPDATE outbox SET model = body #>> '{subject,model}', target = body #>> '{subject,target}';
