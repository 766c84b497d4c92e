"""Judges a round by what the contract promises, and by nothing else: it knows no table, key or code of the service."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from tests.chaos.audience import Audience, may_be_lost
from tests.chaos.history import NEVER, NOTHING, SERVICE, Chain, Change, Given, History, Message, Page, Sent


class Promise(StrEnum):
    """A promise that can be broken; the value says how."""

    LOST = "acknowledged, and missing from a pull that began later"
    SKIPPED = "given below a cursor that the device already held"
    REPEATED = "given twice along one chain of cursors"
    DISORDERED = "given in another order than that of its connection, or of its ids"
    LEAKED = "given to somebody who must not see it"
    INVENTED = "given, though nobody sent it, or though it was refused"
    ALTERED = "given with another content than it had then"
    RECALLED = "given with its content by a pull that began after its recall was answered"
    UNTOLD = "recalled or edited after a device had pulled it, and the device was not told"
    STALE = "a read mark, a setting or a block that is not the newest one, or is missing"
    RENUMBERED = "given with different ids to different receivers, or with the id of another message"
    CURSOR = "a cursor that falls, or lies below a message of its page"
    EPOCH = "a reset without a new epoch, a new epoch without a reset or without a loss"
    TRUNCATED = "told that messages are no longer kept, within the window"
    OVERFULL = "more messages in an answer than were asked for"


@dataclass(frozen=True, slots=True)
class Finding:
    promise: Promise
    uid: str
    detail: str
    message: Message | None = None


@dataclass
class Verdict:
    """findings: broken promises. The other figures are what was looked at, and what the contract excuses.

    lost_with_disk: messages that were answered 204, not archived yet, and gone with the disk of a store. stored_again:
    resends that were not recognised because the store had lost the first copy's mark, too.
    """

    acknowledged: int = 0
    given: int = 0
    pages: int = 0
    lost_with_disk: int = 0
    stored_again: int = 0
    findings: list[Finding] = field(default_factory=list)

    def counts(self) -> Counter[Promise]:
        """Returns for each promise how many messages broke it, each counted once however many users saw that."""
        found: defaultdict[Promise, set[object]] = defaultdict(set)
        for each in self.findings:
            found[each.promise].add(each.message or (each.uid, each.detail))
        return Counter({promise: len(what) for promise, what in found.items()})


def check(history: History) -> Verdict:
    """Looks at everything that was pulled, and for everything that was to be pulled."""
    verdict = Verdict(acknowledged=sum(each.acknowledged < NEVER for each in history.sent.values()))
    audience = Audience(history)
    contents = _Contents(history)
    ids = _Ids(history)
    gone: set[Message] = set()
    again: set[Message] = set()
    for chain in history.chains:
        judged = _JudgedChain(chain, history, audience, contents, ids)
        verdict.findings += judged.findings()
        verdict.given += sum(len(page.messages) for page in chain.pages)
        verdict.pages += len(chain.pages)
        gone |= judged.gone
        again |= judged.again
    verdict.lost_with_disk, verdict.stored_again = len(gone), len(again)
    return verdict


class _JudgedChain:
    """One device's pulls, in their order."""

    def __init__(self, chain: Chain, history: History, audience: Audience, contents: "_Contents", ids: "_Ids") -> None:
        self._chain = chain
        self._uid = chain.uid
        self._history = history
        self._audience = audience
        self._contents = contents
        self._ids = ids
        self._settings = [each for each in history.settings if each.uid == chain.uid]
        self.gone: set[Message] = set()
        self.again: set[Message] = set()

    def findings(self) -> Iterator[Finding]:
        highest = 0
        held: dict[Message, int] = {}
        since_reset: set[Message] = set()
        numbers: dict[str, int] = {}
        previous: Page | None = None
        due = self._due()
        states: dict[str, str] = {}
        for page in self._chain.pages:
            yield from self._of_page(page, previous)
            if page.reset:
                since_reset, numbers, states = set(), {}, {}
            states |= dict(page.states)
            last = 0 if page.reset else page.cursor
            for given in page.messages:
                if given.last_id <= last:
                    yield self._found(Promise.DISORDERED, given, f"{given.last_id} after {last}")
                last = max(last, given.last_id)
                message = given.message
                if message in since_reset:
                    yield from self._repeated(given, held)
                elif message not in held and given.mid <= highest and not self._was_let_in_by_a_loss(message):
                    yield self._found(Promise.SKIPPED, given, f"{given.message}: {given.mid} <= {highest}")
                elif message in held and held[message] != given.mid:
                    self.again.add(message)
                since_reset.add(message)
                held[message] = given.mid
                yield from self._ids.findings(given, self._uid)
                yield from self._of_message(given, page, numbers)
            highest = max(highest, page.last_id)
            if not page.more:
                yield from self._missing(due, page, held)
                yield from self._stale(page, states)
            previous = page
        yield from self._untold()

    def _of_page(self, page: Page, previous: Page | None) -> Iterator[Finding]:
        if len(page.messages) > page.limit:
            yield self._found(Promise.OVERFULL, None, f"{len(page.messages)} of {page.limit}")
        if page.last_id < max((each.last_id for each in page.messages), default=0):
            yield self._found(Promise.CURSOR, None, f"{page.last_id} lies below a message of its page")
        if page.last_id < page.cursor and not page.reset:
            yield self._found(Promise.CURSOR, None, f"{page.last_id} after {page.cursor}")
        told_anew = bool(page.known_epoch) and page.epoch != page.known_epoch
        if page.reset != told_anew:
            yield self._found(Promise.EPOCH, None, f"reset {page.reset}: {page.known_epoch} -> {page.epoch}")
        if told_anew and not any(loss.begun <= page.ended for loss in self._history.losses):
            yield self._found(Promise.EPOCH, None, f"nothing was lost: {page.known_epoch} -> {page.epoch}")
        if page.truncated and (previous is None or page.begun - previous.begun < self._history.window):
            yield self._found(Promise.TRUNCATED, None, f"cursor {page.cursor}")

    def _was_let_in_by_a_loss(self, message: Message) -> bool:
        """Whether the user may have left the audience before it was sent, and the store may have lost that since."""
        sent = self._history.sent.get(message)
        return self._history.forgot and sent is not None and self._audience.sees(self._uid, sent) is None

    def _repeated(self, given: Given, held: dict[Message, int]) -> Iterator[Finding]:
        """Says whether the store may have forgotten that it had it."""
        if held[given.message] != given.mid and self._history.may_be_stored_anew(given.message):
            self.again.add(given.message)
        else:
            yield self._found(Promise.REPEATED, given, f"{held[given.message]} and {given.mid}")

    def _of_message(self, given: Given, page: Page, numbers: dict[str, int]) -> Iterator[Finding]:
        if given.sender == SERVICE and given.told is not None:
            if self._audience.may_see(self._uid, given.message, 0.0, page.ended) is False:
                yield self._found(Promise.LEAKED, given, f"{given.told[0]} on {given.topic}")
            return
        sent = self._history.sent.get(given.message)
        if sent is None or sent.refused or page.ended < sent.begun:
            yield self._found(Promise.INVENTED, given, f"{given.message}")
            return
        if self._audience.sees(self._uid, sent) is False:
            yield self._found(Promise.LEAKED, given, f"{given.message}")
        if given.message not in self.again:
            if numbers.get(sent.stream, -1) > sent.number:
                yield self._found(Promise.DISORDERED, given, f"number {sent.number} of {sent.stream}")
            numbers[sent.stream] = max(sent.number, numbers.get(sent.stream, -1))
        yield from self._contents.findings(given, sent, page, self._uid)

    def _due(self) -> list[Sent]:
        """Returns what the user must see, the last one acknowledged first."""
        return sorted(self._audience.due(self._uid), key=lambda sent: sent.acknowledged, reverse=True)

    def _missing(self, due: list[Sent], page: Page, held: dict[Message, int]) -> Iterator[Finding]:
        """Says what was acknowledged before this pull began, and has not come although there is no more."""
        while due and due[-1].acknowledged < page.begun:
            sent = due.pop()
            if sent.message in held or page.begun - sent.begun > self._history.window:
                continue
            if self._excused(sent):
                self.gone.add(sent.message)
            else:
                detail = f"{sent.message} acknowledged {page.begun - sent.acknowledged:.3f} s before"
                yield Finding(Promise.LOST, self._uid, detail, sent.message)

    def _stale(self, page: Page, states: dict[str, str]) -> Iterator[Finding]:
        """Says which states are not what they were when this pull began, or became until it ended."""
        allowed: defaultdict[str, set[str]] = defaultdict(lambda: {NOTHING})
        for setting in self._settings:
            if setting.begun > page.ended:
                continue
            if setting.acknowledged < page.begun and not may_be_lost(self._history.losses, setting.acknowledged):
                allowed[setting.about] = {setting.value}
            else:
                allowed[setting.about].add(setting.value)
        for about in allowed.keys() | states.keys():
            if (value := states.get(about, NOTHING)) not in allowed[about]:
                yield self._found(Promise.STALE, None, f"{about}: {value!r}, not {sorted(allowed[about])}")

    def _excused(self, sent: Sent) -> bool:
        return any(
            sent.acknowledged <= loss.ended and sent.message not in loss.archived for loss in self._history.losses
        )

    def _untold(self) -> Iterator[Finding]:
        """Looks for what was changed after this device had pulled it, and was never told it."""
        told = {given.told for page in self._chain.pages for given in page.messages if given.told is not None}
        complete = max((page.begun for page in self._chain.pages if not page.more), default=0.0)
        pulled = {given.message: (given, page) for page in self._chain.pages for given in page.messages}
        for change in self._contents.changes:
            given, page = pulled.get(change.message, (None, None))
            if given is None or page is None or not page.ended < change.begun < change.acknowledged < complete:
                continue
            if may_be_lost(self._history.losses, change.acknowledged):
                continue
            if not self._audience.may_see(self._uid, change.message, change.begun, change.acknowledged):
                continue
            kind = "im.recalled" if change.content is None else "im.edited"
            if (kind, given.mid) not in told:
                yield self._found(Promise.UNTOLD, given, f"{kind} of {given.message}")

    def _found(self, promise: Promise, given: Given | None, detail: str) -> Finding:
        return Finding(promise, self._uid, detail, None if given is None else given.message)


class _Contents:
    """Knows what a message may look like at a time, as it is recalled and edited."""

    def __init__(self, history: History) -> None:
        self.changes = history.changes
        self._losses = history.losses
        self._of: defaultdict[Message, list[Change]] = defaultdict(list)
        for change in history.changes:
            self._of[change.message].append(change)

    def findings(self, given: Given, sent: Sent, page: Page, uid: str) -> Iterator[Finding]:
        allowed = self._allowed(sent, page)
        if (given.content, given.recalled, given.edited) in allowed:
            return
        recalled_for_certain = all(content is None for content, _, _ in allowed)
        promise = Promise.RECALLED if recalled_for_certain and given.content is not None else Promise.ALTERED
        shown = f"{given.message}: {given.content!r}, recalled {given.recalled}, edited {given.edited}"
        yield Finding(promise, uid, shown, given.message)

    def _allowed(self, sent: Sent, page: Page) -> set[tuple[str | None, bool, bool]]:
        """Returns content, whether it is recalled, and whether it is edited."""
        allowed: set[tuple[str | None, bool, bool]] = {(sent.content, False, False)}
        for change in self._of.get(sent.message, ()):
            if page.ended < change.begun:
                break
            after = {(change.content, change.content is None, change.content is not None)}
            if change.acknowledged < page.begun and not may_be_lost(self._losses, change.acknowledged):
                allowed = after
            else:
                allowed |= after
        return allowed


class _Ids:
    """Holds the id that each message has, for everybody who gets it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._mids: dict[Message, int] = {each.message: each.mid for each in history.sent.values() if each.mid}
        self._messages: dict[int, Message] = {}

    def findings(self, given: Given, uid: str) -> Iterator[Finding]:
        """A control message is told to several users under one id, on the topic of each."""
        if given.told is None:
            mid = self._mids.setdefault(given.message, given.mid)
            if mid != given.mid and not self._history.may_be_stored_anew(given.message):
                yield Finding(Promise.RENUMBERED, uid, f"{given.message}: {mid} and {given.mid}", given.message)
            other = self._messages.setdefault(given.mid, given.message)
            if other != given.message:
                yield Finding(Promise.RENUMBERED, uid, f"{given.mid}: {other} and {given.message}", given.message)
