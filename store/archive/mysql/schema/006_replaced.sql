-- Messages that were edited or recalled.
--
-- message.replaced: id of the newest edit, or of the recall; 0 for a message as it was sent. A recalled one has the form
-- 2, and its payload is who recalled it: the message itself is gone.
-- aggregate_month.replaced: the highest of these ids of the messages that were replaced since the month was begun.
-- MySQL has no ADD COLUMN IF NOT EXISTS, and this file may run twice: the statement is made only where it is needed.
SET @add_replaced = IF(
    EXISTS (SELECT 1 FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'message' AND COLUMN_NAME = 'replaced'),
    'DO 0', 'ALTER TABLE message ADD COLUMN replaced BIGINT NOT NULL DEFAULT 0');

PREPARE add_replaced FROM @add_replaced;

EXECUTE add_replaced;

DEALLOCATE PREPARE add_replaced;
SET @add_replaced = IF(
    EXISTS (SELECT 1 FROM information_schema.COLUMNS
            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'aggregate_month' AND COLUMN_NAME = 'replaced'),
    'DO 0', 'ALTER TABLE aggregate_month ADD COLUMN replaced BIGINT NOT NULL DEFAULT 0');

PREPARE add_replaced FROM @add_replaced;

EXECUTE add_replaced;

DEALLOCATE PREPARE add_replaced;
