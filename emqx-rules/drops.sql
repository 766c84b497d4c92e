-- Deliveries that the broker dropped: a queue was full, a message too old. Their payload is not needed.
-- Action: drops
-- Answers to: POST /hooks/client
SELECT
  'client' AS hook,
  event, node, timestamp, clientid, username, from_clientid, from_username,
  reason, topic, qos
FROM
  "$events/delivery_dropped"
