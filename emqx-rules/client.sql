-- Presence and subscription dispatch: a device connected, disconnected, or can hear its own topic.
-- Answers to: POST /hooks/client
SELECT
  'client' AS hook,
  event, node, timestamp, clientid, username,
  connected_at, disconnected_at, clean_start, reason, topic, qos
FROM
  "$events/client_connected",
  "$events/client_disconnected",
  "$events/session_subscribed"
WHERE
  event <> 'session.subscribed' OR topic = concat('single/', username)
