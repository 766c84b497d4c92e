"""The only place that knows Redis key names, and how those of a shard begin.

A shard is a hash tag, so that everything one script touches lies on one node of a Redis Cluster. All names here are
those of the home, shard 0; `in_shard` gives a key of the same name in another shard.
"""

from functools import cache
from hashlib import blake2b
from itertools import count

from redis.crc import key_slot

PREFIX = b"im:{s0}:"
_SLOTS = 16384


@cache
def shard_prefix(shard: int, shards: int) -> bytes:
    """Returns how keys of a shard begin, of so many.

    Each of as many equal ranges of slots as there are shards has the slot of one of them, near its middle but for the
    home's: so masters of a cluster that serve equal ranges have as many shards as the others, or one more.
    """
    if shard == 0:
        return PREFIX
    # The home's slot was there first: the shard whose range that is takes the first range.
    place = shard if shard != key_slot(PREFIX) * shards // _SLOTS else 0
    middle, near = (place + 0.5) * _SLOTS / shards, _SLOTS / shards / 16
    prefixes = (b"im:{s%d.%d}:" % (shard, number) for number in count())
    return next(prefix for prefix in prefixes if abs(key_slot(prefix) - middle) <= near)


def in_shard(key: bytes, prefix: bytes) -> bytes:
    """Returns the key of the same name in the shard whose keys begin so."""
    return prefix + key[len(PREFIX) :]


LAYOUT = PREFIX + b"layout"
"""String: the number of the layout in which the store was written, `store/timelines/layout.py`."""
EPOCH = PREFIX + b"epoch:2"
"""String: the random name of this life of the store, in each shard another. Absent: Redis is empty and must be rebuilt
first."""
CLOCK = PREFIX + b"clock"
"""String: the highest id given so far, microseconds since the Unix epoch; in a shard beside the home the id up to which
it has everything."""
PROCESSES = PREFIX + b"processes"
"""Sorted set, in the home: the processes that work on the store by when they last said so (milliseconds)."""
RESHARDING = PREFIX + b"resharding"
"""String, in the home: while the number of shards is being changed, how many there were and will be."""
SHARDS = PREFIX + b"shards"
"""String: how many shards the store has; absent where it has one."""
LINKS = PREFIX + b"links"
"""Hash, in the home: `life`, the number of the home's life; and by shard the id of the newest entry of its link."""
LINK_PREFIX = PREFIX + b"link:"
"""Start of the names of streams in the home that have what is to be applied in another shard; then the shard. Entry id
`<id>-0`, fields `p` (the id of the entry before), `l` (life), `c` (complete up to), `d` (items)."""
LINK_BYTES = PREFIX + b"link:bytes"
"""String: bytes of data on all links."""
AWAY = PREFIX + b"away"
"""Set, in the home: numbers of other shards that have not answered for long; what is for them waits on their links."""
LINKS_LOCK = PREFIX + b"links:lock"
"""String: held by the process that carries what nobody else does."""
CHANGING = PREFIX + b"changing"
"""Sorted set, in the home: users whose states or tags have changed lately, by the id of that (`looking.lua`)."""
APPLIED = PREFIX + b"applied"
"""Hash, in a shard: `life` and `id` of the newest entry of its link that was applied there."""
CHANGED_GROUPS = PREFIX + b"gl"
"""Sorted set, in a shard beside the home: gid by the id of the newest entry of its link that changed its members."""
ADMITTED = PREFIX + b"admitted"
"""String, where there are several shards: the run of the server (`run_id`) on which this shard was let in last."""
ADMISSION = PREFIX + b"admission"
"""String, where there are several shards: the run of the server, and a random name: scripts work on this shard under
these only (`scripts.py`)."""
MARK = PREFIX + b"mark"
"""Is there only while a script runs that writes something for replicas to have."""
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

HANDED_IN = ("stream", "lease", "link")
"""Names in the headers of scripts that work on one of several keys: a list of work, a lease, a link."""

BANS = PREFIX + b"bans"
"""Sorted set: banned user by when that ends (milliseconds); some have ended. The home has all, another shard those of
its users."""
BANS_CHANGED = PREFIX + b"bans:changed"
"""String: id of the last change of a ban."""

USERS_PER_BITMAP = 1 << 12
"""So many users share one presence bitmap."""

INBOX_PREFIX = PREFIX + b"i:"
"""Start of the names of inboxes; then `uid:span`."""
CHANNEL_PREFIX = PREFIX + b"c:"
"""Start of the names of channels."""
BODIES_PREFIX = PREFIX + b"m:"
"""Start of the names of hashes of bodies; then the span of time."""
CHANNEL_MAP_PREFIX = PREFIX + b"chan:"
"""Start of the names of users' maps of channels."""
GROUP_PREFIX = PREFIX + b"g:"
"""Start of the names of groups."""
HERE_PREFIX = PREFIX + b"gh:"
"""Start of the names of sorted sets of the members of a group that a shard has, where there are several; then the gid.
Member by the id at which they joined."""
GROUP_SHARDS_PREFIX = PREFIX + b"gs:"
"""Start of the names of hashes in the home that count a group's members by shard, but for its own; then the gid."""
MEMBERS_PREFIX = PREFIX + b"gm:"
"""Start of the names of sets of a group's members."""
KICKED_PREFIX = PREFIX + b"gk:"
"""Start of the names of sets of users who were kicked from a group."""
TAG_PREFIX = PREFIX + b"t:"
"""Start of the names of tags."""
MUTES_PREFIX = PREFIX + b"gx:"
"""Start of the names of groups' mutes."""
BAN_PREFIX = PREFIX + b"ban:"
"""Start of the names of users' bans."""
STATES_PREFIX = PREFIX + b"st:"
"""Start of the names of all that has users' states (`include/states.lua`); then a letter, a colon and the uid."""
BLOCKS_PREFIX = PREFIX + b"bl:"
"""Set: users who block anybody; and start of the names of sets of those whom one user blocks; then the uid."""
STAGED_PREFIX = PREFIX + b"ts:"
"""Start of the names of sets of staged users."""
PAGES_PREFIX = PREFIX + b"tl:"
"""Start of the names of lists of users who are to be propagated, or staged."""
HOLDERS_PREFIX = PREFIX + b"th:"
"""Start of the names of sets of a tag's holders; then `source:tag`."""
FORMER_PREFIX = PREFIX + b"tw:"
"""Start of the names of these sets as they were before the change that is being propagated."""
DEVICES_PREFIX = PREFIX + b"dev:"
"""Start of the names of hashes of a user's devices online: clientid to their connections (`presence.lua`)."""
BITMAP_PREFIX = PREFIX + b"on:"
"""Start of the names of presence bitmaps: one bit for each user, set while a device of theirs is online."""


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
    return MEMBERS_PREFIX + b"%d" % gid


def kicked(gid: int) -> bytes:
    """Set: users who were kicked and not invited since."""
    return KICKED_PREFIX + b"%d" % gid


def groups_made(uid: int) -> bytes:
    """String: how many groups this user has made in the day that began with the first of them."""
    return PREFIX + b"gd:%d" % uid


def tag(name: str) -> bytes:
    """Hash: `title`, `followable` (`1` or `0`), `made`, `changed` (ids of its making and of the last change, of its
    holders too), `holders` (how many); `deleted` (id) once it is; `waiting`, in `lines`, and
    `cursor`, in `former`, while it is being propagated.

    Where there are several shards, `holders` and `cursor` are those of one shard's users. The home also has `swapped`
    (id of the last change of very many) and, while that is being propagated, `swap` (under which name the new holders
    were staged, and how many in each shard); the others have `steps` (how many they have propagated)."""
    return TAG_PREFIX + name.encode()


def parts(tag: str) -> bytes:
    """Set, in the home, where there are several shards: those in which a change of the tag is not propagated yet."""
    return PREFIX + b"tp:" + tag.encode()


def holders(source: str, tag: str) -> bytes:
    """Set: users who hold the tag because this source says so."""
    return HOLDERS_PREFIX + f"{source}:{tag}".encode()


def former(source: str, tag: str) -> bytes:
    """Set: what `holders` was before the change that is being propagated, less those who are."""
    return FORMER_PREFIX + f"{source}:{tag}".encode()


def staged(job: str) -> bytes:
    """Set: users who will be a tag's holders when the upload is complete."""
    return STAGED_PREFIX + job.encode()


def pages(tag: str) -> bytes:
    """List: users who hold the tag by their profile and are not propagated yet, some hundred an element, separated by
    spaces."""
    return PAGES_PREFIX + tag.encode()


def lines(tag: str) -> bytes:
    """String: what has changed of a tag's holders and waits for more, to go to the archive in one; in a shard beside
    the home what that was not told yet (`tag_propagate_there.lua`)."""
    return PREFIX + b"tr:" + tag.encode()


def staged_pages(job: str) -> bytes:
    """List: the users who were staged, as in `pages`."""
    return PAGES_PREFIX + job.encode()


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
"""`EPOCH` in the layout before."""
EARLIER_OUTBOX = PREFIX + b"outbox"
"""`OUTBOX` in the layout before."""
EARLIER_OUTBOX_BYTES = PREFIX + b"outbox:bytes"
"""`OUTBOX_BYTES` in the layout before."""
EARLIER_REBUILD_LOCK = PREFIX + b"rebuild:lock"
"""`REBUILD_LOCK` in the layout before: held for ever, so that no process of that layout rebuilds."""
EARLIER_INBOX_PREFIX = PREFIX + b"in:"
"""Start of the names of inboxes in the layout before."""
EARLIER_CHANNEL_PREFIX = PREFIX + b"ch:"
"""Start of the names of channels in the layout before."""
