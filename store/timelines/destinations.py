"""Which timelines a message lies in: said once, for writing it and for putting it back."""

from store.addresses import Address, Inbox
from store.record import SERVICE


def destinations(to: Address, sender: str, *, sync_sender: bool) -> tuple[tuple[str, ...], str]:
    """The users in whose inboxes it lies, or else the channel's name.

    A private message lies in the receiver's inbox and, for the sender's other devices, in his own. A group's message is
    put back into the group's channel, whatever mode it was sent in: everybody sees the channel as long as he was in it.
    """
    if isinstance(to, Inbox):
        return receivers(to, sender, sync_sender=sync_sender), ""
    return (), to.channel


def receivers(to: Inbox, sender: str, *, sync_sender: bool) -> tuple[str, ...]:
    """The uids of those in whose inboxes a private message lies."""
    uid = str(to.uid)
    return (uid, sender) if sync_sender and sender != uid and sender != SERVICE else (uid,)
