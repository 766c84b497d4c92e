-- When a group (`group:<gid>`) or a tag (`tag_<tag>`) changed last, its members or holders too.
CREATE TABLE IF NOT EXISTS channel_change (
    channel VARBINARY(80) NOT NULL PRIMARY KEY,
    changed BIGINT NOT NULL,
    KEY channel_change_by_id (changed)
) ENGINE = InnoDB;

INSERT INTO channel_change (channel, changed)
SELECT CONCAT('group:', gid), im_group.changed FROM im_group
ON DUPLICATE KEY UPDATE changed = GREATEST(channel_change.changed, VALUES(changed));

INSERT INTO channel_change (channel, changed)
SELECT CONCAT('tag_', tag), tag.changed FROM tag
ON DUPLICATE KEY UPDATE changed = GREATEST(channel_change.changed, VALUES(changed));

INSERT INTO channel_change (channel, changed)
SELECT CONCAT('tag_', tag), MAX(tag_holder.changed) FROM tag_holder GROUP BY tag
ON DUPLICATE KEY UPDATE changed = GREATEST(channel_change.changed, VALUES(changed));
