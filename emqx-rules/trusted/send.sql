-- Selects messages of trusted sending to store: the user's own publish with QoS 1, as a message to its receiver's topic.
-- Answers to: POST /hooks/message
SELECT
  'message' AS hook,
  event, node, timestamp, id, clientid, username, is_null(username) AS rest,
  substr(topic, 5) AS topic, qos, base64_encode(payload) AS payload_b64, publish_received_at
FROM
  "send/single/+",
  "send/group/+"
WHERE
  qos > 0 AND is_not_null(username)
