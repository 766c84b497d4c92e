-- Builds what receivers hear live: the sender, as the broker knows them, around what they sent; see republish.hocon.
-- The payload stands in it as it is only where EMQX has read it as a JSON object: anything else could end the JSON
-- around it and go on with a `from` of its own. Asking for a field is how a rule can tell without failing.
-- And only where every parser reads it, and reads the same, which EMQX's own does not promise. So never with more than
-- 128 brackets that open, a number of more than 15 digits before or behind the point or with an exponent, half of a
-- surrogate pair (or a whole one) as an escape, a raw control character in a string, NaN or Infinity. The pattern goes
-- through the tokens of JSON, once and without a way back; only what it has matched to the end is let through.
-- Action: republish
SELECT
  id, username, qos, publish_received_at,
  substr(topic, 5) AS receiver,
  CASE
    WHEN regex_match(payload, '^(?!(?:[^{[]*+[{[]){129})(?:[\t\n\r {}\[\],:]++|"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}))*+"|[a-z]++|-?[0-9]{1,15}+(?:\.[0-9]{1,15}+)?+(?![0-9.eE]))*+\z')
      AND (is_not_null(map_get('id', payload)) OR is_not_null(map_get('type', payload))
      OR is_not_null(map_get('body', payload)) OR is_not_null(map_get('from', payload)))
    THEN 'message'
    ELSE 'message_b64'
  END AS field,
  CASE
    WHEN field = 'message' THEN payload
    ELSE concat(['"', base64_encode(payload), '"'])
  END AS content
FROM
  "send/single/+",
  "send/group/+"
WHERE
  is_not_null(username) AND regex_match(username, '^[1-9][0-9]{0,15}\z') AND username <= 9007199254740991
