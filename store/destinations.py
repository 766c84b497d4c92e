"""Which timelines a message lies in: said once, for writing it and for putting it back."""

from store import keys
from store.record import SERVICE


def destinations(topic: str, sender: str, *, sync_sender: bool) -> tuple[tuple[bytes, ...], str]:
    """The timelines' keys, and the channel's name ("" for inboxes).

    A private message lies in the receiver's inbox and, for the sender's other devices, in his own.
    """
    kind, _, name = topic.partition("/")
    if kind == "business":
        return (keys.channel(name),), name
    receiver = keys.inbox(int(name))
    if not sync_sender or sender in (name, SERVICE):
        return (receiver,), ""
    return (receiver, keys.inbox(int(sender))), ""
