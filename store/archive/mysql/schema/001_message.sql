-- Every stored message once, whatever its audience.
--
-- conversation: the topic, from the receiver's side: `single/1002`, `group/77`, `business/global`.
-- id: microseconds since the Unix epoch; ts: milliseconds. form: 1 = the payload is JSON, 0 = any bytes.
-- Names are bytes, because collations take `Ab`, `aB` and `Ab ` for one.
-- message_by_id answers "what is the highest id" at once and reads a span of time in order.
-- Months are cut off `later` ahead of time; what no month was made for lands in `later` and is not lost.
CREATE TABLE IF NOT EXISTS message (
    conversation VARBINARY(255) NOT NULL,
    id BIGINT NOT NULL,
    sender VARBINARY(255) NOT NULL,
    client_id VARBINARY(64) NOT NULL,
    ts BIGINT NOT NULL,
    form TINYINT NOT NULL,
    payload LONGBLOB NOT NULL,
    PRIMARY KEY (conversation, id),
    KEY message_by_sender (sender, id),
    KEY message_by_id (id)
) ENGINE = InnoDB
PARTITION BY RANGE (id) (PARTITION later VALUES LESS THAN MAXVALUE);
