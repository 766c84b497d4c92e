-- Commands: what users ask of groups, of conversations, and of tags that they may follow.
-- Answers to: POST /hooks/group
SELECT
  'group' AS hook,
  event, node, timestamp, id, clientid, username, is_null(username) AS rest,
  topic, qos, base64_encode(payload) AS payload_b64, publish_received_at
FROM
  "group/+/+",
  "single/+/+",
  "business/+/follow",
  "business/+/unfollow",
  "business/+/read"
WHERE
  qos > 0 AND is_not_null(username)
