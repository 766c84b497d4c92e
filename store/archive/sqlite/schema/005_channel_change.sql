-- When a group (`group:<gid>`) or a tag (`tag_<tag>`) changed last, its members or holders too.
CREATE TABLE IF NOT EXISTS channel_change (
    channel TEXT NOT NULL PRIMARY KEY,
    changed INTEGER NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS channel_change_by_id ON channel_change (changed);

INSERT INTO channel_change (channel, changed)
SELECT 'group:' || gid, changed FROM im_group WHERE TRUE
ON CONFLICT (channel) DO UPDATE SET changed = MAX(channel_change.changed, excluded.changed);

INSERT INTO channel_change (channel, changed)
SELECT 'tag_' || tag, changed FROM tag WHERE TRUE
ON CONFLICT (channel) DO UPDATE SET changed = MAX(channel_change.changed, excluded.changed);

INSERT INTO channel_change (channel, changed)
SELECT 'tag_' || tag, MAX(changed) FROM tag_holder WHERE TRUE GROUP BY tag
ON CONFLICT (channel) DO UPDATE SET changed = MAX(channel_change.changed, excluded.changed);
