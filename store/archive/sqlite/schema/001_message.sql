-- Every stored message once, whatever its audience.
--
-- conversation: the topic, from the receiver's side: `single/1002`, `group/77`, `business/global`.
-- id: microseconds since the Unix epoch; ts: milliseconds. form: 1 = the payload is JSON, 0 = any bytes.
-- The checks refuse what MySQL refuses. SQLite has no partitions: old rows are deleted by id.
CREATE TABLE IF NOT EXISTS message (
    conversation TEXT NOT NULL CHECK (length(CAST(conversation AS BLOB)) <= 255),
    id INTEGER NOT NULL,
    sender TEXT NOT NULL CHECK (length(CAST(sender AS BLOB)) <= 255),
    client_id TEXT NOT NULL CHECK (length(CAST(client_id AS BLOB)) <= 64),
    ts INTEGER NOT NULL,
    form INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (conversation, id)
) STRICT;

CREATE INDEX IF NOT EXISTS message_by_sender ON message (sender, id);

CREATE INDEX IF NOT EXISTS message_by_id ON message (id);
