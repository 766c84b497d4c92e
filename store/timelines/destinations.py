"""Which timelines a message lies in: said once, for writing it and for putting it back."""

from store.addresses import Address, Inbox
from store.record import SERVICE
from store.redis import keys


def destinations(to: Address, sender: str, *, sync_sender: bool) -> tuple[tuple[bytes, ...], str]:
    """The timelines' keys, and the channel's name ("" for inboxes).

    A private message lies in the receiver's inbox and, for the sender's other devices, in his own. A group's message is
    put back into the group's channel, whatever mode it was sent in: everybody sees the channel as long as he was in it.
    """
    if isinstance(to, Inbox):
        return tuple(keys.inbox(int(uid)) for uid in receivers(to, sender, sync_sender=sync_sender)), ""
    channel = to.channel
    return (keys.channel(channel),), channel


def receivers(to: Inbox, sender: str, *, sync_sender: bool) -> tuple[str, ...]:
    """The uids of those in whose inboxes a private message lies."""
    uid = str(to.uid)
    return (uid, sender) if sync_sender and sender != uid and sender != SERVICE else (uid,)
