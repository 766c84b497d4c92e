"""Which timelines a message lies in: said once, for writing it and for putting it back."""

from store.record import SERVICE
from store.redis import keys


def destinations(topic: str, sender: str, *, sync_sender: bool) -> tuple[tuple[bytes, ...], str]:
    """The timelines' keys, and the channel's name ("" for inboxes).

    A private message lies in the receiver's inbox and, for the sender's other devices, in his own. A group's message is
    put back into the group's channel, whatever mode it was sent in: everybody sees the channel as long as he was in it.
    """
    kind, _, name = topic.partition("/")
    if kind == "group":
        channel = keys.group_channel(int(name))
        return (keys.channel(channel),), channel
    if kind == "business":
        return (keys.channel(name),), name
    return tuple(keys.inbox(int(uid)) for uid in receivers(name, sender, sync_sender=sync_sender)), ""


def receivers(uid: str, sender: str, *, sync_sender: bool) -> tuple[str, ...]:
    """In whose inboxes a private message to a user lies."""
    return (uid, sender) if sync_sender and sender != uid and sender != SERVICE else (uid,)


def conversation(channel: str) -> str:
    """The topic, and the archive's conversation, of a channel."""
    gid = keys.gid_of(channel)
    return f"business/{channel}" if gid is None else f"group/{gid}"
