-- Selects messages to store: QoS 1. A publish without a username came through EMQX's REST API or dashboard; only
-- business messages among those are stored.
-- Answers to: POST /hooks/message
SELECT
  'message' AS hook,
  event, node, timestamp, id, clientid, username, is_null(username) AS rest,
  topic, qos, base64_encode(payload) AS payload_b64, publish_received_at
FROM
  "single/+",
  "group/+",
  "business/+"
WHERE
  qos > 0 AND (is_not_null(username) OR nth(1, tokens(topic, '/')) = 'business')
