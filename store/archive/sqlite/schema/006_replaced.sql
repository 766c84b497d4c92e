-- Messages that were edited or recalled.
--
-- message.replaced: id of the newest edit, or of the recall; 0 for a message as it was sent. A recalled one has the form
-- 2, and its payload is who recalled it: the message itself is gone.
-- aggregate_month.replaced: the highest of these ids of the messages that were replaced since the month was begun.
ALTER TABLE message ADD COLUMN replaced INTEGER NOT NULL DEFAULT 0;

ALTER TABLE aggregate_month ADD COLUMN replaced INTEGER NOT NULL DEFAULT 0;
