"""Decides which timelines a message belongs to, in one place for writing and for restoring."""

from store.addresses import Address, Inbox
from store.record import SERVICE


def destinations(to: Address, sender: str, *, sync_sender: bool) -> tuple[tuple[str, ...], str]:
    """Returns the users in whose inboxes it belongs, or else the channel's name.  A private message belongs in the
    receiver's inbox and, for the sender's other devices, in the sender's. A group's message is restored into the
    group's channel, whatever mode it was sent in: members see the channel as long as they were in it.
    """
    if isinstance(to, Inbox):
        return receivers(to, sender, sync_sender=sync_sender), ""
    return (), to.channel


def receivers(to: Inbox, sender: str, *, sync_sender: bool) -> tuple[str, ...]:
    """Returns the uids of those in whose inboxes a private message lies."""
    uid = str(to.uid)
    return (uid, sender) if sync_sender and sender != uid and sender != SERVICE else (uid,)
