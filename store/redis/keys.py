"""The only place that knows Redis key names and shards.

A shard is a hash tag, so that everything one script touches lies on one node of a Redis Cluster. There is one
shard until scale-out is built; the keys carry the tag from the first day.
"""

from hashlib import blake2b

PREFIX = b"im:{s0}:"

LAYOUT = PREFIX + b"layout"
"""String: the number of the layout in which the store was written, `store/timelines/layout.py`."""
EPOCH = PREFIX + b"epoch:2"
"""String: the random name of this life of the store. Absent: Redis is empty and must be rebuilt first."""
CLOCK = PREFIX + b"clock"
"""String: the highest id given so far, microseconds since the Unix epoch."""
WINDOW = PREFIX + b"window"
"""String: how far back the timelines are kept, microseconds: by all processes, whatever window each was given."""
OUTBOX = PREFIX + b"outbox:2"
"""Stream, entry id `<id>-0`: what is not archived yet. Fields `k` (kind), `d` (data) and `v` (version of their layout).
No entry's id lies above that of a message in it."""
OUTBOX_BYTES = PREFIX + b"outbox:2:bytes"
"""String: bytes of data in the outbox."""
HEADS = PREFIX + b"heads"
"""Hash: channel name to the id of its newest message; and a long name that is not a channel's, which keeps it fast."""
WAKEUPS = PREFIX + b"news"
"""Sharded Pub/Sub channel: after each batch, the names of the timelines it wrote, separated by spaces."""
REPLACING = PREFIX + b"replacing"
"""Sorted set: `mid:change` by mid, of messages that were edited or recalled, until the archive says so, and a little
longer."""
DORMANT = PREFIX + b"asleep"
"""Hash: uid to `0` for a dormant user, whose inbox is not written; else to the id after which it is written again."""
SEEN = PREFIX + b"seen"
"""Sorted set: uid by the time (milliseconds) at which they were last seen."""
UNSEEN = PREFIX + b"unseen"
"""Sorted set: uids of users who were never seen and whose inboxes were skipped, by the time (milliseconds) of the last
one, or an hour before it."""
READ_GROUPS = PREFIX + b"readers"
"""Hash: uid to the number of read-mode groups they are in."""
USER_GROUPS = PREFIX + b"groups"
"""Hash: uid to the number of groups they are in."""
PERMISSIONS = PREFIX + b"permissions"
"""Stream: whose permission at the broker changed. Fields `a` (who caused it: a uid, 0 for operators, or the channel of
a tag), `u` (uid), `t` (topic), `g` (1 granted, 0 revoked); a group that was dismissed and still has members to be dealt
with is an entry with the fields `a` and `e` (gid)."""
TAGS = PREFIX + b"tags"
"""Sorted set, all scores 0: the names of the tags."""
PROPAGATING = PREFIX + b"propagating"
"""Hash: tag to the id at which many users gained or lost it at once, while their maps of channels do not all say so."""
PROPAGATE_LOCK = PREFIX + b"propagate:lock"
"""String: held by the process that propagates."""
SWEEP_LOCK = PREFIX + b"sweep:lock"
"""String: held by the process that sweeps."""
SWEPT = PREFIX + b"swept"
"""String: when the last sweep began that was completed, milliseconds."""
REBUILD_LOCK = PREFIX + b"rebuild:lock:2"
"""String: held by the process that rebuilds."""
PRESENCE = PREFIX + b"presence"
"""Hash: `users` and `devices` online now."""
PRESENCE_FEED = PREFIX + b"presence:feed"
"""Pub/Sub channel: `{"uid", "online", "at"}` (milliseconds) whenever a user comes online or goes offline."""
BITMAPS = PREFIX + b"online"
"""Set: numbers of the bitmaps that have a bit set."""
RECONCILE_LOCK = PREFIX + b"reconcile:lock"
"""String: held by the process that reconciles presence with the broker."""
RECONCILED = PREFIX + b"reconciled"
"""String: when the last reconciling that was completed began, milliseconds."""
CACHES_LOCK = PREFIX + b"caches:lock"
"""String: held by the process that looks whether the broker keeps denials that nobody decided."""
CACHES_LOOKED = PREFIX + b"caches:looked"
"""String: when the last look began, milliseconds."""
CACHES = PREFIX + b"caches"
"""String: what the last look found (JSON)."""
BOOTS = PREFIX + b"boots"
"""Hash: node of the broker to when it was started and when that was seen first (milliseconds), and `open` while those
whom it let in unasked are looked for, then `closed`."""
BOOT_LOCK = PREFIX + b"boots:lock"
"""String: held by the process that looks for nodes that were started."""
SYNC_TOLD = PREFIX + b"sync:"
"""Start of the names of the marks that a process is about to tell a user to pull."""
DEAD_COUNTER = PREFIX + b"dead:counter"
"""String: number of the newest dead letter."""
DEAD_LETTERS = PREFIX + b"dead:letters"
"""Hash: number to dead letter (JSON)."""
DEAD_NUMBERS = PREFIX + b"dead:numbers"
"""Sorted set: numbers of the dead letters, by number."""
DEAD_SENDERS = PREFIX + b"dead:senders"
"""Sorted set: sender by bytes of their dead letters."""
DEAD_BYTES = PREFIX + b"dead:bytes"
"""String: bytes of all dead letters."""
DEAD_OF_PREFIX = PREFIX + b"dead:of:"
"""Start of the names of the lists of one sender's dead letters, oldest first."""
EVENTS = PREFIX + b"ev"
"""Stream: events that wait for the operator's back end, but for those of presence (`event_queues.lua`)."""
EVENTS_OF_USERS = PREFIX + b"ev:users"
"""Stream: events of presence that wait for it."""
EVENT_COUNTS = PREFIX + b"ev:counts"
"""Hash: `bytes` of all events that wait; how many were `written`, `sent`, and `lost` with the Redis they lay in;
`dropped <kind>`, how many of a kind were dropped because too much waited; the `state` that these counts are of, and the
one whose loss was `counted` last."""
EVENTS_LOCK = PREFIX + b"ev:lock"
"""String: held by the process that delivers events."""
EVENTS_STOPPED = PREFIX + b"ev:stopped"
"""Hash: `url` (a digest of it) that wants no more events, and `at`, when it said so (milliseconds)."""
BUDGET_PREFIX = PREFIX + b"b:"
"""Start of the names of what senders have written in a minute, bytes; only of those who wrote much, or to groups."""

HANDED_IN = ("stream", "lease")
"""Names in the headers of scripts that work on one of several keys: a list of work, a lease."""

BANS = PREFIX + b"bans"
"""Sorted set: banned user by when that ends (milliseconds); some have ended."""
BANS_CHANGED = PREFIX + b"bans:changed"
"""String: id of the last change of a ban."""

USERS_PER_BITMAP = 1 << 12
"""So many users share one presence bitmap."""

INBOX_PREFIX = PREFIX + b"i:"
"""What inboxes' names start with; then `uid:span`."""
CHANNEL_PREFIX = PREFIX + b"c:"
"""What channels' names start with."""
BODIES_PREFIX = PREFIX + b"m:"
"""What the names of the hashes of bodies start with; then the span of time."""
CHANNEL_MAP_PREFIX = PREFIX + b"chan:"
"""What the names of users' maps of channels start with."""
GROUP_PREFIX = PREFIX + b"g:"
"""What groups' names start with."""
MUTES_PREFIX = PREFIX + b"gx:"
"""What the names of groups' mutes start with."""
BAN_PREFIX = PREFIX + b"ban:"
"""What the names of users' bans start with."""
STATES_PREFIX = PREFIX + b"st:"
"""Start of the names of what users' states lie in (`include/states.lua`): a letter, a colon and the uid follow."""
BLOCKS_PREFIX = PREFIX + b"bl:"
"""Set: uids of users who block anybody; and what the names of sets start with that have the uids whom one blocks."""
HOLDERS_PREFIX = PREFIX + b"th:"
"""What the names of sets of a tag's holders start with; then `source:tag`."""
FORMER_PREFIX = PREFIX + b"tw:"
"""What the names of these sets start with as they were before the change that is being propagated."""
DEVICES_PREFIX = PREFIX + b"dev:"
"""What device hashes' names start with: clientid to the connections of a user's devices online (`presence.lua`)."""
BITMAP_PREFIX = PREFIX + b"on:"
"""What the names of presence bitmaps start with: one bit per user, set while a device of theirs is online."""


def inbox(uid: int, span: int) -> bytes:
    """Sorted set: id by id, what was written to this user in this span of time (`store/timelines/spans.py`)."""
    return INBOX_PREFIX + b"%d:%d" % (uid, span)


def state_names(uid: int) -> bytes:
    """Sorted set: the names of a user's states by the ids of their newest changes."""
    return STATES_PREFIX + b"n:%d" % uid


def state_values(uid: int) -> bytes:
    """Hash: the names of a user's states to their values, and counts of them."""
    return STATES_PREFIX + b"v:%d" % uid


def state_head(uid: int) -> bytes:
    """String: the id of the newest change of any state of a user."""
    return STATES_PREFIX + b"h:%d" % uid


def channel(name: str) -> bytes:
    """Sorted set: id by id, what was written once for everybody who reads the channel."""
    return CHANNEL_PREFIX + name.encode()


def bodies(span: int) -> bytes:
    """Hash: id to record, of every message that got its id in this span of time (`store/timelines/spans.py`)."""
    return BODIES_PREFIX + b"%d" % span


def channel_map(uid: int) -> bytes:
    """Hash: name of a channel to the intervals in which the user sees it, `J:L,J:L,J:`: ids above each J and below
    its L, or without end. Channels that everybody sees are not in it."""
    return CHANNEL_MAP_PREFIX + b"%d" % uid


def group(gid: int) -> bytes:
    """Hash: `owner`, `mode`, `open`, `name`, `made`, `changed` (ids of its making and last change); `dismissed` and
    `ended` (ids of its end, and of the end of all memberships) once that is over. Once somebody moderates it also
    `notice`, `admins`, `muted_until`, `mutes_until` (`roles.lua` describes these), and `moderated` (id of the last such
    change)."""
    return GROUP_PREFIX + b"%d" % gid


def mutes(gid: int) -> bytes:
    """Sorted set: muted user by when that ends (milliseconds), former members too; some have ended."""
    return MUTES_PREFIX + b"%d" % gid


def members(gid: int) -> bytes:
    """Sorted set: member by the id at which they joined."""
    return PREFIX + b"gm:%d" % gid


def kicked(gid: int) -> bytes:
    """Set: users who were kicked and not invited since."""
    return PREFIX + b"gk:%d" % gid


def groups_made(uid: int) -> bytes:
    """String: how many groups this user has made in the day that began with the first of them."""
    return PREFIX + b"gd:%d" % uid


def tag(name: str) -> bytes:
    """Hash: `title`, `followable` (`1` or `0`), `made`, `changed` (ids of its making and of the last change, of its
    holders too), `holders` (how many); `deleted` (id) once it is; `waiting`, in `lines`, and
    `cursor`, in `former`, while it is being propagated."""
    return PREFIX + b"t:" + name.encode()


def holders(source: str, tag: str) -> bytes:
    """Set: users who hold the tag because this source says so."""
    return HOLDERS_PREFIX + f"{source}:{tag}".encode()


def former(source: str, tag: str) -> bytes:
    """Set: what `holders` was before the change that is being propagated, less those who are."""
    return FORMER_PREFIX + f"{source}:{tag}".encode()


def staged(job: str) -> bytes:
    """Set: users who will be a tag's holders when the upload is complete."""
    return PREFIX + b"ts:" + job.encode()


def pages(tag: str) -> bytes:
    """List: users who hold the tag by their profile and are not propagated yet, some hundred an element, separated by
    spaces."""
    return PREFIX + b"tl:" + tag.encode()


def lines(tag: str) -> bytes:
    """String: what has changed of a tag's holders and waits for more, to go to the archive in one."""
    return PREFIX + b"tr:" + tag.encode()


def staged_pages(job: str) -> bytes:
    """List: the users who were staged, as in `pages`."""
    return PREFIX + b"tl:" + job.encode()


def dead_of(sender: str) -> bytes:
    """List: numbers of this sender's dead letters, oldest first."""
    return DEAD_OF_PREFIX + sender.encode()


def dead_told(sender: str) -> bytes:
    """String: this sender was told of a refusal within the last second."""
    return PREFIX + b"dead:told:" + sender.encode()


def repeat(sender: str, topic: str, client_id: str) -> bytes:
    """String: the id that the first message with this sender, topic and client id got."""
    digest = blake2b(f"{sender}\n{topic}\n{client_id}".encode("utf-8", "surrogatepass"), digest_size=12)
    return PREFIX + b"r:" + digest.digest()


def bitmap(number: int) -> bytes:
    """Bitmap of the users from `number * USERS_PER_BITMAP` on."""
    return BITMAP_PREFIX + b"%d" % number


def ban(uid: int) -> bytes:
    """String, until the ban ends: `until` (milliseconds), the id of the change and the reason, a line each."""
    return BAN_PREFIX + b"%d" % uid


def login_link(digest: str) -> bytes:
    """String, for an hour: a link that logs an operator in once."""
    return PREFIX + b"login:" + digest.encode()


def minute(number: int) -> bytes:
    """Hash, for twenty minutes: what happened in this minute since the Unix epoch, in all processes."""
    return PREFIX + b"min:%d" % number


def subscribing(uid: int) -> bytes:
    """Sorted set: clientid, while a process is about to subscribe it, by when that ends at the latest (seconds)."""
    return PREFIX + b"sub:%d" % uid


def gone(uid: int, clientid: str, connected_at: int, node: str) -> bytes:
    """String: this connection is over."""
    digest = blake2b(f"{clientid}\n{connected_at}\n{node}".encode("utf-8", "surrogatepass"), digest_size=12)
    return PREFIX + b"gone:%d:" % uid + digest.digest()


EARLIER_EPOCH = PREFIX + b"epoch"
"""What `EPOCH` was in the layout before."""
EARLIER_OUTBOX = PREFIX + b"outbox"
"""What `OUTBOX` was in the layout before."""
EARLIER_OUTBOX_BYTES = PREFIX + b"outbox:bytes"
"""What `OUTBOX_BYTES` was in the layout before."""
EARLIER_REBUILD_LOCK = PREFIX + b"rebuild:lock"
"""What `REBUILD_LOCK` was in the layout before: held for ever, so that no process of that layout rebuilds."""
EARLIER_INBOX_PREFIX = PREFIX + b"in:"
"""What inboxes' names started with in the layout before."""
EARLIER_CHANNEL_PREFIX = PREFIX + b"ch:"
"""What channels' names started with in the layout before."""
