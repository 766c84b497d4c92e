"""The protocol of links, lives and gates, as a model without Redis that hypothesis explores.

One step is what one script does, or one process between two calls. Whatever steps follow each other, nobody skips a
message or gets it twice, and who was told that a message is stored finds it in every pull that begins after that; but
for what a home lost that nobody else had. `faults`: what is wrong with it.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

USERS = range(4)
MOST_SHARDS = 3
GROUP = -1
"""The receiver of a message to the one group there is."""
WHICH = st.integers(0, 59)
"""Which one of several, counted from the first one, and again from there behind the last one."""

Device = tuple[int, str]
"""A user, and how often the device pulls."""
DEVICES: list[Device] = [(user, habit) for user in USERS for habit in ("idle", "eager")]
Item = tuple[str, int, frozenset[int]]
"""What it is, its id, and users: whose inbox it goes to, who joined or left, or who the members are."""


@dataclass
class Entry:
    id: int
    before: int
    life: int
    complete: int
    items: list[Item]


@dataclass
class Home:
    """outbox: what is not archived yet."""

    life: int = 1
    clock: int = 0
    repeats: dict[int, int] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
    outbox: set[int] = field(default_factory=set)
    links: dict[int, list[Entry]] = field(default_factory=lambda: {shard: [] for shard in range(1, MOST_SHARDS)})
    tails: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(1, MOST_SHARDS), 0))


@dataclass
class Shard:
    """members: those of the group that belong to this shard. epoch: 0 while it is to be rebuilt."""

    life: int = 1
    applied: int = 0
    clock: int = 0
    epoch: int = 0
    inboxes: dict[int, set[int]] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)

    def do(self, items: Iterable[Item]) -> None:
        for what, mid, users in items:
            if what == "joined":
                self.members |= users
            elif what == "left":
                self.members -= users
            elif what == "members":
                self.members = set(users)
            for user in self.members if what == "group" else users if what == "inbox" else ():
                assert mid not in self.inboxes.setdefault(user, set()), "once"
                self.inboxes[user].add(mid)


class Links(RuleBasedStateMachine):
    """A message is known to its sender by a number, `sent`; `told`: the ids of which a sender was told."""

    faults: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.count = self.count_before = MOST_SHARDS
        self.home = Home()
        self.lives = self.epochs_begun = 1
        self.shards = {shard: Shard(epoch=1) for shard in range(MOST_SHARDS)}
        self.now = 0
        """The highest id that was ever given: ids are times."""
        self.judged: set[tuple[int, int]] = set()
        """Receivers and ids of all messages, and of them what is not lost:"""
        self.kept: set[tuple[int, int]] = set()
        self.changes: list[tuple[int, int, bool]] = []
        """Changes of the group's members: id, user, whether they joined."""
        self.archived: set[int] = set()
        self.sent: dict[int, tuple[int, int]] = {}
        """Sender and receiver."""
        self.told: set[int] = set()
        self.under_way: list[tuple[int, list[tuple[int, Entry]]]] = []
        """What processes have to carry before they answer: by message, per shard an entry."""
        self.cursors = dict.fromkeys(DEVICES, 0)
        self.received: dict[Device, list[int]] = {device: [] for device in DEVICES}
        self.epochs = dict.fromkeys(DEVICES, 1)
        self.history: list[tuple[Home, Shard]] = []
        """What the home was before each of the newest messages: it may be that again."""
        self.earlier: dict[int, list[Shard]] = {}
        """What each other shard was before the newest entries."""
        self.forget_history()
        self.seen = dict.fromkeys(range(1, MOST_SHARDS), 0)
        """What was applied a minute ago."""
        self.rebuilding: dict[int, int] = {}
        """Shards that are rebuilt alone, and the id as of which."""

    def forget_history(self) -> None:
        self.history = []
        self.earlier = {shard: [] for shard in range(1, MOST_SHARDS)}

    def shard_of(self, user: int) -> int:
        return user % self.count

    # What scripts do

    def next_id(self) -> int:
        self.home.clock += 1
        self.now = max(self.now, self.home.clock)
        return self.home.clock

    def put(self, items: dict[int, list[Item]]) -> list[tuple[int, Entry]]:
        """Does what is for the home's own users, and puts the rest on the links."""
        home, carried = self.home, []
        self.shards[0].do(items.pop(0, ()))
        self.shards[0].clock = home.clock
        for shard, some in items.items():
            entry = Entry(some[-1][1], home.tails[shard], home.life, home.clock, some)
            home.links[shard].append(entry)
            home.tails[shard] = entry.id
            carried.append((shard, entry))
        return carried

    def append(self, sent: int, messages: int) -> None:
        """Judges and gives ids, in one step; a batch has several messages to the same users."""
        self.history = [*self.history[-2:], (deepcopy(self.home), deepcopy(self.shards[0]))]
        items: dict[int, list[Item]] = {}
        count = self.count_before if "another number" in self.faults else self.count
        sender, receiver = self.sent[sent]
        receivers = set(self.home.members) if receiver == GROUP else {sender, receiver}
        for _ in range(messages):
            mid = self.next_id()
            self.judged |= {(user, mid) for user in receivers}
            self.home.outbox.add(mid)
            for shard in {user % count for user in receivers}:
                users = frozenset(user for user in receivers if user % count == shard)
                item: Item = ("group", mid, frozenset()) if receiver == GROUP else ("inbox", mid, users)
                items.setdefault(shard, []).append(item)
        self.kept |= {(user, mid) for user, mid in self.judged if mid in self.home.outbox}
        self.home.repeats[sent] = self.home.clock
        self.under_way.append((self.home.clock, self.put(items)))

    def apply(self, number: int, life: int, entries: list[Entry]) -> str:
        shard = self.shards.get(number, Shard(life=self.home.life))
        if life < shard.life and "any life" not in self.faults:
            return "STALE"
        if number in self.rebuilding:
            return "EMPTY"
        for entry in entries:
            if entry.id <= shard.applied:
                if "twice" in self.faults:
                    shard.do(entry.items)
                continue
            if entry.before != shard.applied and "gaps" not in self.faults:
                return "GAP"
            self.earlier[number] = [*self.earlier[number][-2:], deepcopy(shard)]
            shard.do(entry.items)
            shard.applied = entry.id
            shard.clock = max(shard.clock, entry.complete)
        return "OK"

    def rest(self, number: int) -> list[Entry]:
        return [entry for entry in self.home.links[number] if entry.id > self.shards[number].applied]

    # What users and processes do

    @rule(sender=st.sampled_from(USERS), receiver=st.sampled_from([*USERS, GROUP]), messages=st.integers(1, 2))
    def send(self, sender: int, receiver: int, messages: int) -> None:
        self.sent[len(self.sent)] = sender, receiver
        self.append(len(self.sent) - 1, messages)

    @rule(user=st.sampled_from(USERS))
    def join_or_leave(self, user: int) -> None:
        self.history = [*self.history[-2:], (deepcopy(self.home), deepcopy(self.shards[0]))]
        joins, mid = user not in self.home.members, self.next_id()
        self.home.members ^= {user}
        self.home.outbox.add(mid)
        self.changes.append((mid, user, joins))
        item: Item = ("joined" if joins else "left", mid, frozenset({user}))
        self.put({self.shard_of(user): [item]})

    @precondition(lambda self: self.home.repeats)
    @rule(which=WHICH)
    def send_again(self, which: int) -> None:
        """The first process may have died: whatever was on the links is carried."""
        mid = self.home.repeats[sorted(self.home.repeats)[which % len(self.home.repeats)]]
        for shard in range(1, self.count):
            outcome = "OK" if "repeats" in self.faults else self.apply(shard, self.home.life, self.rest(shard))
            assert outcome == "OK" or shard in self.rebuilding
            if outcome != "OK":
                return
        self.told.add(mid)

    @precondition(lambda self: self.under_way)
    @rule(which=WHICH, dies=st.booleans(), answer_is_lost=st.booleans())
    def carry(self, which: int, dies: bool, answer_is_lost: bool) -> None:
        """A process goes on with one of its messages; in any order, as there are several processes."""
        mid, carried = self.under_way.pop(which % len(self.under_way))
        for number, entry in carried[: 1 if dies else None]:
            if "told before" in self.faults:
                break
            outcome = self.apply(number, entry.life, [entry])
            if outcome == "GAP" and entry.life == self.home.life:
                outcome = self.apply(number, entry.life, self.rest(number))
            has_id = number < self.count and entry.id <= self.shards[number].applied
            if outcome != "OK" and not ("id alone" in self.faults and has_id):
                return
        if not dies and not answer_is_lost:
            self.told.add(mid)

    @rule(number=st.integers(1, MOST_SHARDS - 1), carries=st.booleans())
    def beat(self, number: int, carries: bool) -> None:
        if number < self.count and number not in self.rebuilding:
            if carries:
                self.apply(number, self.home.life, self.rest(number))
            shard = self.shards[number]
            if shard.applied >= self.home.tails[number] or "beats" in self.faults:
                shard.clock = max(shard.clock, self.home.clock)

    @rule(number=st.integers(1, MOST_SHARDS - 1))
    def trim(self, number: int) -> None:
        """A minute has passed: what was applied before it leaves the link, and no shard loses more than that."""
        if number < self.count:
            applied = self.shards[number].applied
            until = {"trims all": self.home.tails[number], "trims at once": applied}
            edge = max([self.seen[number], *(until[fault] for fault in self.faults & until.keys())])
            self.home.links[number] = [entry for entry in self.home.links[number] if entry.id > edge]
            self.earlier[number] = [each for each in self.earlier[number] if each.applied >= self.seen[number]]
            # The home may be what it was within that minute, not before.
            self.history = [each for each in self.history if each[0].tails[number] >= self.seen[number]]
            self.seen[number] = applied

    @rule()
    def archive(self) -> None:
        self.archived |= self.home.outbox
        self.home.outbox = set()

    # What goes wrong, and what is done about it

    @rule(which=WHICH, emptied=st.booleans(), somebody_knows=st.booleans())
    def lose_home(self, which: int, emptied: bool, somebody_knows: bool) -> None:
        """The home is what it was some messages ago, or has nothing, and is to pass its gate."""
        if not self.history and not emptied:
            return
        known = max(self.told, default=0) if somebody_knows else 0
        self.home, self.shards[0] = (Home(), Shard()) if emptied else self.history[which % len(self.history)]
        lost = {mid for _, mid in self.judged if mid > self.home.clock} - self.archived
        self.kept = {
            (user, mid)
            for user, mid in self.kept
            if mid not in lost
            or (self.shard_of(user) and mid in self.shards[self.shard_of(user)].inboxes.get(user, ()))
        }
        self.changes = [each for each in self.changes if each[0] <= self.home.clock or each[0] in self.archived]
        self.told -= lost
        # As good as told: there is nothing to carry, and the process has the reply of the home that was.
        self.under_way = [each for each in self.under_way if each[1] or each[0] not in lost]
        is_behind = emptied or max(self.archived | {known}) > self.home.clock
        others = range(1, self.count)
        if is_behind or any(self.shards[number].applied > self.home.tails[number] for number in others):
            self.rebuild()
            return
        # What only the home's own users had nobody can know of.
        for device in DEVICES:
            if self.shard_of(device[0]) == 0:
                self.received[device] = [mid for mid in self.received[device] if mid not in lost]
        self.begin_life()
        self.forget_history()

    @rule(number=st.integers(1, MOST_SHARDS - 1), which=WHICH)
    def lose_some(self, number: int, which: int) -> None:
        """A shard is what it was some entries ago, and passes its gate: it has its link carried before it is read."""
        if not self.earlier[number]:
            return
        self.shards[number], self.earlier[number] = self.earlier[number][which % len(self.earlier[number])], []
        self.shards[number].life = self.home.life
        if "used at once" not in self.faults:
            assert self.apply(number, self.home.life, self.rest(number)) == "OK", "no more than a minute is lost"

    @rule(number=st.integers(1, MOST_SHARDS - 1))
    def lose_all(self, number: int) -> None:
        """A shard has nothing. First it knows where its link goes on; the home and the others go on meanwhile."""
        if number < self.count:
            self.lose_what_only_one_has(number)
            tail = 0 if "link from its beginning" in self.faults else self.home.tails[number]
            self.shards[number] = Shard(life=self.home.life, applied=tail)
            self.earlier[number] = []
            self.rebuilding[number] = tail

    @precondition(lambda self: self.rebuilding)
    @rule()
    def rebuild_one(self) -> None:
        """Its users are told by another epoch. What comes after that id the link brings."""
        number, as_of = self.rebuilding.popitem()
        if "not archived" not in self.faults:
            self.archive()
        shard = self.shards[number]
        until = self.now if "too much" in self.faults else as_of
        self.put_back(number, {mid for mid in self.archived if mid <= until})
        until = self.now if "members of now" in self.faults else as_of
        for mid, user, joined in self.changes:
            if self.shard_of(user) == number and mid <= until:
                shard.members = shard.members | {user} if joined else shard.members - {user}
        shard.clock = as_of
        self.epochs_begun += 1
        shard.epoch = self.epochs_begun

    def lose_what_only_one_has(self, number: int) -> None:
        """What a home had lost is lost for those, too, whose shard had it."""
        has = self.archived | self.home.outbox
        self.kept = {(user, mid) for user, mid in self.kept if mid in has or self.shard_of(user) != number}

    def begin_life(self) -> None:
        """The home goes on above all that others have of it, in a life that was not used before."""
        self.lives += 1
        self.home.life = self.home.life + 1 if "lives begin anew" in self.faults else self.lives
        for number in range(1, self.count):
            shard = self.shards[number]
            if "no fence" not in self.faults:
                shard.life = self.home.life
            if "tails" not in self.faults:
                self.home.tails[number] = max(self.home.tails[number], shard.applied)
        if "floor" not in self.faults:
            self.home.clock = self.now

    def rebuild(self) -> None:
        """All is put right from the archive: another life, and other epochs, of which clients are told."""
        if "not archived" not in self.faults:
            self.archive()
        self.rebuilding.clear()
        for number in range(1, self.count):
            self.shards[number].applied = max(self.shards[number].applied, self.home.tails[number])
            self.home.links[number] = []
        for mid, user, joined in self.changes:
            if mid in self.archived:
                self.home.members = self.home.members | {user} if joined else self.home.members - {user}
        self.begin_life()
        for number, shard in self.shards.items():
            self.put_back(number, self.archived)
            if "epoch" not in self.faults or not shard.epoch:
                self.epochs_begun += 1
                shard.epoch = self.epochs_begun
            shard.clock = max(shard.clock, self.home.clock)
            members = frozenset(user for user in self.home.members if self.shard_of(user) == number)
            if "members" not in self.faults:
                self.put({number: [("members", self.next_id(), members)]})
        self.forget_history()
        self.seen = dict.fromkeys(self.seen, 0)

    def put_back(self, number: int, mids: set[int]) -> None:
        for user, mid in self.judged:
            if mid in mids and self.shard_of(user) == number:
                self.shards[number].inboxes.setdefault(user, set()).add(mid)

    @rule(count=st.integers(1, MOST_SHARDS))
    def reshard(self, count: int) -> None:
        """Another number of shards; processes may come back that have entries of before."""
        self.archive()
        for number in range(1, self.count):
            self.lose_what_only_one_has(number)
        self.count_before, self.count = self.count, count
        self.shards = {number: Shard() for number in range(count)}
        self.rebuild()

    # What is seen of it

    @rule(user=st.sampled_from(USERS), limit=st.sampled_from([1, 2, 100]))
    def pull(self, user: int, limit: int) -> None:
        self.pull_once((user, "idle"), limit)

    @invariant()
    def what_was_told_is_kept(self) -> None:
        """A message to a group without members is kept by nobody."""
        assert self.told & {mid for _, mid in self.judged} <= {mid for _, mid in self.kept}

    @invariant()
    def pull_at_once(self) -> None:
        for user in USERS:
            self.pull_once((user, "eager"), 100)

    def pull_once(self, device: Device, limit: int) -> bool:
        """Returns whether there is more."""
        user, _ = device
        shard = self.shards[self.shard_of(user)]
        if not shard.epoch:
            return False
        if self.epochs[device] != shard.epoch:
            self.epochs[device], self.cursors[device], self.received[device] = shard.epoch, 0, []
        before = self.cursors[device]
        after = sorted(mid for mid in shard.inboxes.get(user, ()) if mid > before)
        page = after[:limit]
        clock = self.home.clock if "clock" in self.faults else shard.clock
        self.cursors[device] = page[-1] if len(after) > limit else max(before, clock)
        self.received[device] += page
        everything = self.of(user)
        assert self.received[device] == everything[: len(self.received[device])], "in order, none skipped, none twice"
        if len(after) <= limit:
            assert self.told & set(everything) <= set(self.received[device]), "what was told is there"
        return len(after) > limit

    def of(self, user: int) -> list[int]:
        return sorted(mid for who, mid in self.kept if who == user)

    def teardown(self) -> None:
        while self.rebuilding:
            self.rebuild_one()
        for number in range(1, self.count):
            assert self.apply(number, self.home.life, self.rest(number)) == "OK"
            here = {user for user in self.home.members if self.shard_of(user) == number}
            assert self.shards[number].members == here, "who is a member"
        for device in DEVICES:
            while self.pull_once(device, 2):
                pass
            assert self.received[device] == self.of(device[0])
