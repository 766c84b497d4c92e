-- A device died. A real will has no peer; a client that publishes to the topic itself has one.
-- Answers to: POST /hooks/will
SELECT
  'will' AS hook,
  event, node, timestamp, id, clientid, username, is_null(username) AS rest,
  topic, qos, base64_encode(payload) AS payload_b64, publish_received_at
FROM
  "im/will/+"
WHERE
  is_null(peerhost)
