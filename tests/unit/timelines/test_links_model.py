"""The protocol of links, as a model that is explored without Redis; and faults in it, each of which must be found.

One step is what one script does, or one process between two calls. Whatever steps follow each other, nobody skips a
message or gets it twice, and who was told that a message is stored finds it in every pull that begins after that.
"""

from copy import deepcopy
from dataclasses import dataclass, field

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

USERS = [0, 1, 2]
SHARDS = 3

Device = tuple[int, str]
"""A user, and how often the device pulls."""
DEVICES: list[Device] = [(user, habit) for user in USERS for habit in ("idle", "eager")]


@dataclass
class Entry:
    id: int
    before: int
    life: int
    complete: int
    items: list[tuple[int, int]]
    """User and message."""


@dataclass
class Home:
    life: int = 1
    clock: int = 0
    repeats: dict[int, int] = field(default_factory=dict)
    links: dict[int, list[Entry]] = field(default_factory=lambda: {shard: [] for shard in range(1, SHARDS)})
    tails: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(1, SHARDS), 0))


@dataclass
class Shard:
    life: int = 1
    applied: int = 0
    clock: int = 0
    epoch: int = 0
    inboxes: dict[int, list[int]] = field(default_factory=dict)


class Links(RuleBasedStateMachine):
    """faults: what is wrong with it. A message is known to its sender by a number, `sent`."""

    faults: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.home = Home()
        self.shards = {shard: Shard() for shard in range(SHARDS)}
        self.archive: list[tuple[int, int]] = []
        self.sent = 0
        self.under_way: list[tuple[int, list[tuple[int, Entry]]]] = []
        """What processes have to carry before they answer: by message, per shard an entry."""
        self.receivers: dict[int, tuple[int, int]] = {}
        self.stored: set[int] = set()
        """Messages (ids) of which the sender was told."""
        self.cursors = dict.fromkeys(DEVICES, 0)
        self.received: dict[Device, list[int]] = {device: [] for device in DEVICES}
        self.epochs = dict.fromkeys(DEVICES, 0)
        self.history: list[tuple[Home, Shard]] = []
        """What the home was before each of the newest messages: it may be that again."""
        self.earlier: dict[int, list[Shard]] = {shard: [] for shard in range(1, SHARDS)}
        """What each other shard was before the newest entries."""

    # What scripts do

    def append(self, sent: int, count: int = 1) -> tuple[int, list[tuple[int, Entry]]]:
        """Judges and gives ids, in one step; a batch has several messages to the same users."""
        home, first = self.home, self.home.clock + 1
        self.history = [*self.history[-2:], (deepcopy(home), deepcopy(self.shards[0]))]
        items: dict[int, list[tuple[int, int]]] = {}
        for mid in range(first, first + count):
            for user in set(self.receivers[sent]):
                items.setdefault(user % SHARDS, []).append((user, mid))
                self.archive.append((user, mid))
        home.clock = first + count - 1
        home.repeats[sent] = home.clock
        carried = []
        for shard, some in items.items():
            if shard == 0:
                self.deliver(self.shards[0], some)
                continue
            entry = Entry(some[-1][1], home.tails[shard], home.life, home.clock, some)
            home.links[shard].append(entry)
            home.tails[shard] = entry.id
            carried.append((shard, entry))
        self.shards[0].clock = home.clock
        return home.clock, carried

    def deliver(self, shard: Shard, items: list[tuple[int, int]]) -> None:
        for user, mid in items:
            shard.inboxes.setdefault(user, []).append(mid)

    def apply(self, number: int, life: int, entries: list[Entry]) -> str:
        shard = self.shards[number]
        if life < shard.life and "any life" not in self.faults:
            return "STALE"
        for entry in entries:
            if entry.id <= shard.applied:
                if "twice" in self.faults:
                    self.deliver(shard, entry.items)
                continue
            if entry.before != shard.applied and "gaps" not in self.faults:
                return "GAP"
            self.earlier[number] = [*self.earlier[number][-2:], deepcopy(shard)]
            self.deliver(shard, entry.items)
            shard.applied = entry.id
            shard.clock = max(shard.clock, entry.complete)
        return "OK"

    def rest(self, number: int) -> list[Entry]:
        return [entry for entry in self.home.links[number] if entry.id > self.shards[number].applied]

    # Moves

    @rule(sender=st.sampled_from(USERS), receiver=st.sampled_from(USERS), count=st.integers(1, 2))
    def send(self, sender: int, receiver: int, count: int) -> None:
        self.sent += 1
        self.receivers[self.sent] = sender, receiver
        mid, carried = self.append(self.sent, count)
        self.under_way.append((mid, carried))

    @precondition(lambda self: self.home.repeats)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        """The first process may have died: whatever was on the links is carried."""
        sent = data.draw(st.sampled_from(sorted(self.home.repeats)))
        mid = self.home.repeats[sent]
        for shard in {user % SHARDS for user in self.receivers[sent]} - {0}:
            if "repeats" not in self.faults:
                assert self.apply(shard, self.home.life, self.rest(shard)) == "OK"
        self.stored.add(mid)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), dies=st.booleans(), answer_is_lost=st.booleans())
    def carry(self, data: st.DataObject, dies: bool, answer_is_lost: bool) -> None:
        """A process goes on with one of its messages; in any order, as there are several processes."""
        mid, carried = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        for shard, entry in carried[: 1 if dies else None]:
            if "told before" in self.faults:
                break
            outcome = self.apply(shard, entry.life, [entry])
            if outcome == "GAP" and entry.life == self.home.life:
                outcome = self.apply(shard, entry.life, self.rest(shard))
            if outcome != "OK" and not ("id alone" in self.faults and entry.id <= self.shards[shard].applied):
                return
        if not dies and not answer_is_lost:
            self.stored.add(mid)

    @rule(shard=st.integers(1, SHARDS - 1), carries=st.booleans())
    def beat(self, shard: int, carries: bool) -> None:
        tail, clock, life = self.home.tails[shard], self.home.clock, self.home.life
        if carries:
            self.apply(shard, life, self.rest(shard))
        if self.shards[shard].applied >= tail or "beats" in self.faults:
            self.shards[shard].clock = max(self.shards[shard].clock, clock)

    @rule(emptied=st.booleans())
    def rebuild(self, emptied: bool) -> None:
        """Redis is put right from the archive: another life, and another epoch, of which clients are told."""
        self.home.life = 1 if emptied and "lives begin anew" in self.faults else self.home.life + 1
        self.history = []
        if emptied:
            self.home.tails = dict.fromkeys(self.home.tails, 0)
            self.home.repeats.clear()
        self.earlier = {number: [] for number in self.earlier}
        for number, shard in self.shards.items():
            shard.epoch += 1
            shard.inboxes = {user: [mid for who, mid in self.archive if who == user] for user in USERS}
            shard.clock = self.home.clock
            if number:
                shard.life, shard.applied = self.home.life, self.home.tails[number]
                self.home.links[number] = []

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def fail_over(self, data: st.DataObject) -> None:
        """The home is what it was some messages ago, and passes its gate: it goes on above what others have of it."""
        now = self.home.clock
        self.home, self.shards[0] = self.history[data.draw(st.integers(0, len(self.history) - 1))]
        home, self.history = self.home, []
        lost = range(home.clock + 1, now + 1)
        self.archive = [
            (user, mid)
            for user, mid in self.archive
            if mid not in lost or (user % SHARDS and mid in self.shards[user % SHARDS].inboxes.get(user, ()))
        ]
        self.stored.difference_update(lost)
        # As good as told: there is nothing to carry, and the process has the reply of the home that was.
        self.under_way = [(mid, carried) for mid, carried in self.under_way if carried or mid not in lost]
        for user, habit in DEVICES:
            if user % SHARDS == 0:
                self.received[user, habit] = [mid for mid in self.received[user, habit] if mid not in lost]
        home.life += 1
        # One failure at a time: shards do not fail while the home does.
        self.earlier = {number: [] for number in self.earlier}
        for number, shard in self.shards.items():
            if number and "no fence" not in self.faults:
                shard.life = home.life
            if number and "tails" not in self.faults:
                home.tails[number] = max(home.tails[number], shard.applied)
        if "floor" not in self.faults:
            home.clock = now

    @rule(number=st.integers(1, SHARDS - 1), data=st.data())
    def fail_over_elsewhere(self, number: int, data: st.DataObject) -> None:
        """A shard is what it was some entries ago, and passes its gate: it has its link carried before it is read."""
        earlier = self.earlier[number]
        if not earlier:
            return
        self.shards[number], self.earlier[number] = data.draw(st.sampled_from(earlier)), []
        self.shards[number].life = self.home.life
        if "used at once" not in self.faults:
            assert self.apply(number, self.home.life, self.rest(number)) == "OK"

    @rule(number=st.integers(1, SHARDS - 1))
    def rebuild_one(self, number: int) -> None:
        """A shard that is empty gets what is archived up to now, and then what its link brings; the others go on."""
        home, shard = self.home, Shard(self.home.life, clock=self.home.clock, epoch=self.shards[number].epoch + 1)
        shard.applied = 0 if "link from its beginning" in self.faults else home.tails[number]
        archived = self.archive[:-1] if "not all archived" in self.faults else self.archive
        shard.inboxes = {user: [mid for who, mid in archived if who == user] for user in USERS}
        self.shards[number], self.earlier[number] = shard, []

    @rule(user=st.sampled_from(USERS), limit=st.sampled_from([1, 2, 100]))
    def pull(self, user: int, limit: int) -> None:
        self.pull_once((user, "idle"), limit)

    @invariant()
    def what_was_told_is_kept(self) -> None:
        assert self.stored <= {mid for _, mid in self.archive}

    @invariant()
    def pull_at_once(self) -> None:
        for user in USERS:
            self.pull_once((user, "eager"), 100)

    def pull_once(self, device: Device, limit: int) -> bool:
        user, _ = device
        shard = self.shards[user % SHARDS]
        if self.epochs[device] != shard.epoch:
            self.epochs[device], self.cursors[device], self.received[device] = shard.epoch, 0, []
        before = self.cursors[device]
        after = [mid for mid in shard.inboxes.get(user, ()) if mid > before]
        page = after[:limit]
        clock = self.home.clock if "clock" in self.faults else shard.clock
        self.cursors[device] = page[-1] if len(after) > limit else max(before, clock)
        self.received[device] += page
        everything = self.of(user)
        assert self.received[device] == everything[: len(self.received[device])], "in order, none skipped, none twice"
        if len(after) <= limit:
            assert self.stored & set(everything) <= set(self.received[device]), "what was told is there"
        return len(after) > limit

    def of(self, user: int) -> list[int]:
        return sorted({mid for who, mid in self.archive if who == user})

    def teardown(self) -> None:
        for shard in range(1, SHARDS):
            assert self.apply(shard, self.home.life, self.rest(shard)) == "OK"
        for device in DEVICES:
            while self.pull_once(device, 2):
                pass
            assert self.received[device] == self.of(device[0])


def explore(examples: int, *faults: str) -> None:
    machine = type("Links", (Links,), {"faults": frozenset(faults)})
    phases = [Phase.generate]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=20, phases=phases, database=None)
    )


def test_nothing_is_skipped_or_comes_twice() -> None:
    explore(100)


FAULTS = [
    *("any life", "twice", "gaps", "repeats", "told before", "beats", "clock"),
    *("lives begin anew", "no fence", "tails", "floor", "id alone", "used at once"),
    *("link from its beginning", "not all archived"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_it_is_found(fault: str) -> None:
    with pytest.raises(AssertionError):
        explore(4000, fault)
