"""The checker finds nothing in what an honest service did, and whatever is planted in it."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given, strategies

from tests.chaos.audience import Audience
from tests.chaos.checker import Promise, check
from tests.chaos.history import NEVER, Chain, Change, Given, History, Loss, Membership, Message, Page, Sent, Takeover
from tests.unit.chaos.honest import USERS, Honest

STEPS = 60


def lived(seed: int, *, with_loss: bool = False) -> History:
    return Honest(random.Random(seed)).live(STEPS, with_loss=with_loss)


seeds = strategies.integers(0, 2**32)


@given(seeds, strategies.booleans())
def test_an_honest_service_keeps_its_promises(seed: int, with_loss: bool) -> None:
    verdict = check(lived(seed, with_loss=with_loss))
    assert verdict.findings == []
    assert verdict.pages >= len(USERS)


def places(history: History) -> Iterator[tuple[Chain, Page, int, Given]]:
    """Yields where users' messages were given, but those whose sender's side is not settled."""
    for chain in history.chains:
        for page in chain.pages:
            for place, each in enumerate(page.messages):
                if each.told is None:
                    yield chain, page, place, each


def certain(history: History) -> list[tuple[Chain, Page, int, Given]]:
    audience = Audience(history)
    return [
        place for place in places(history) if audience.sees(place[0].uid, history.sent[place[3].message]) is not None
    ]


def lose(history: History, dice: random.Random) -> bool:
    found = certain(history)
    if not found:
        return False
    _, page, place, _ = dice.choice(found)
    del page.messages[place]
    return True


def repeat(history: History, dice: random.Random) -> bool:
    """Gives a message once more on a later page of the chain, under a new id."""
    chain = dice.choice(history.chains)
    mine = [(number, each) for number, page in enumerate(chain.pages) for each in page.messages if each.told is None]
    if not mine:
        return False
    number, message = dice.choice(mine)
    later = dice.choice(chain.pages[number:])
    place = later.last_id
    if place == message.last_id:
        return False
    later.messages = [each for each in later.messages if each.last_id != place]
    later.messages.append(message._replace(last_id=place, mid=place))
    return True


def swap_ids(history: History, dice: random.Random) -> bool:
    """Gives two messages of one connection in the wrong order, with ids that increase."""
    for chain in history.chains:
        for page in chain.pages:
            for first, second in zip(page.messages, page.messages[1:], strict=False):
                if first.told is None and second.told is None and first.sender == second.sender:
                    at = page.messages.index(first)
                    page.messages[at] = second._replace(last_id=first.last_id, mid=first.mid)
                    page.messages[at + 1] = first._replace(last_id=second.last_id, mid=second.mid)
                    return True
    return False


def swap_places(history: History, dice: random.Random) -> bool:
    pages = [page for chain in history.chains for page in chain.pages if len(page.messages) > 1]
    if not pages:
        return False
    page = dice.choice(pages)
    page.messages[0], page.messages[1] = page.messages[1], page.messages[0]
    return True


def leak(history: History, dice: random.Random) -> bool:
    """Gives somebody's message to a user who must not see it."""
    audience = Audience(history)
    outsiders = [
        (chain, each)
        for _, _, _, each in places(history)
        for chain in history.chains
        if chain.pages and audience.sees(chain.uid, history.sent[each.message]) is False
    ]
    if not outsiders:
        return False
    chain, message = dice.choice(outsiders)
    chain.pages[-1].messages.append(message)
    return True


def invent(history: History, dice: random.Random) -> bool:
    _, page, place, message = dice.choice(list(places(history)) or [(None, None, 0, None)])
    if page is None or message is None:
        return False
    page.messages[place] = message._replace(id="nobody sent this")
    return True


def refuse(history: History, dice: random.Random) -> bool:
    found = list(places(history))
    if not found:
        return False
    history.sent[dice.choice(found)[3].message].refused = True
    return True


def alter(history: History, dice: random.Random) -> bool:
    found = [place for place in places(history) if place[3].content is not None]
    if not found:
        return False
    _, page, place, message = dice.choice(found)
    page.messages[place] = message._replace(content="other", edited=False)
    return all(change.content is not None for change in history.changes if change.message == message.message)


def show_recalled(history: History, dice: random.Random) -> bool:
    """Gives a message as it was, long after its recall was answered."""
    for change in history.changes:
        for _, page, place, message in places(history):
            if change.content is None and message.message == change.message and page.begun > change.acknowledged:
                was = history.sent[message.message].content
                page.messages[place] = message._replace(content=was, recalled=False)
                return True
    return False


def tell_nobody(history: History, dice: random.Random) -> bool:
    for chain in history.chains:
        for page in chain.pages:
            page.messages = [each for each in page.messages if each.told is None]
    audience = Audience(history)
    return any(
        message.message == change.message
        and page.ended < change.begun
        # Who left meanwhile is told nothing.
        and audience.may_see(chain.uid, change.message, change.begun, change.acknowledged)
        for change in history.changes
        for chain, page, _, message in certain(history)
    )


def renumber(history: History, dice: random.Random) -> bool:
    """Gives one receiver another id than the others."""
    found = [
        (page, place, each)
        for chain, page, place, each in places(history)
        if sum(each.message == other[3].message for other in places(history)) > 1
    ]
    if not found:
        return False
    page, place, message = dice.choice(found)
    page.messages[place] = message._replace(mid=message.mid + 1)
    return True


def fall(history: History, dice: random.Random) -> bool:
    pages = [page for chain in history.chains for page in chain.pages if page.cursor]
    if not pages:
        return False
    page = dice.choice(pages)
    page.last_id, page.messages = page.cursor - 1, []
    return True


def skip(history: History, dice: random.Random) -> bool:
    """Gives a message only after the cursor has passed it."""
    for chain in history.chains:
        for page, later in zip(chain.pages, chain.pages[1:], strict=False):
            if page.messages and page.last_id > page.messages[0].mid:
                later.messages.insert(0, page.messages.pop(0))
                return True
    return False


def change_epoch(history: History, dice: random.Random) -> bool:
    chain = dice.choice(history.chains)
    if len(chain.pages) < 2:
        return False
    chain.pages[-1].epoch, chain.pages[-1].reset = "another", True
    return True


def keep_reset_quiet(history: History, dice: random.Random) -> bool:
    chain = dice.choice(history.chains)
    if len(chain.pages) < 2:
        return False
    chain.pages[-1].epoch = "another"
    return True


def truncate(history: History, dice: random.Random) -> bool:
    dice.choice([page for chain in history.chains for page in chain.pages]).truncated = True
    return True


def overfill(history: History, dice: random.Random) -> bool:
    pages = [page for chain in history.chains for page in chain.pages if page.messages]
    if not pages:
        return False
    page = dice.choice(pages)
    page.limit = len(page.messages) - 1
    return True


def hide_states(history: History, dice: random.Random) -> bool:
    for chain in history.chains:
        for page in chain.pages:
            page.states = []
    return bool(history.settings)


def keep_old_states(history: History, dice: random.Random) -> bool:
    """Gives the value that was asked for before the newest one."""
    for chain in history.chains:
        values: dict[str, list[str]] = {}
        for each in history.settings:
            if each.uid == chain.uid:
                values.setdefault(each.about, []).append(each.value)
        for page in chain.pages:
            for about, value in page.states:
                if len(values[about]) > 1 and value == values[about][-1]:
                    page.states = [*page.states, (about, values[about][-2])]
                    return True
    return False


PLANTED: list[tuple[Callable[[History, random.Random], bool], Promise]] = [
    (lose, Promise.LOST),
    (repeat, Promise.REPEATED),
    (swap_ids, Promise.DISORDERED),
    (swap_places, Promise.DISORDERED),
    (leak, Promise.LEAKED),
    (invent, Promise.INVENTED),
    (refuse, Promise.INVENTED),
    (alter, Promise.ALTERED),
    (show_recalled, Promise.RECALLED),
    (tell_nobody, Promise.UNTOLD),
    (hide_states, Promise.STALE),
    (keep_old_states, Promise.STALE),
    (renumber, Promise.RENUMBERED),
    (fall, Promise.CURSOR),
    (skip, Promise.SKIPPED),
    (change_epoch, Promise.EPOCH),
    (keep_reset_quiet, Promise.EPOCH),
    (truncate, Promise.TRUNCATED),
    (overfill, Promise.OVERFULL),
]


@pytest.mark.parametrize(("plant", "promise"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
@given(seed=seeds)
def test_what_is_planted_is_found(plant: Callable[[History, random.Random], bool], promise: Promise, seed: int) -> None:
    history = lived(seed)
    assume(plant(history, random.Random(seed)))
    assert promise in check(history).counts()


def test_each_promise_is_planted() -> None:
    assert {promise for _, promise in PLANTED} == set(Promise)


def sent(topic: str = "single/2", begun: float = 1.0, acknowledged: float = 2.0) -> Sent:
    return Sent(Message(topic, "1", "m"), "1", 1, "text", begun, acknowledged)


def page(begun: float, *given: Given, last_id: int = 100, more: bool = False) -> Page:
    return Page(begun, begun + 1, 0, "", 10, list(given), last_id, "e", more)


def history_of(*all_sent: Sent, **more: object) -> History:
    return replace(History(sent={each.message: each for each in all_sent}), **more)  # type: ignore[arg-type]


def test_a_message_is_owed_by_the_first_complete_pull_that_began_after_its_answer() -> None:
    chain = Chain("2", "a", [page(1.5), page(3.0, more=True), page(4.0)])
    verdict = check(history_of(sent(), chains=[chain]))
    assert [(each.promise, each.uid) for each in verdict.findings] == [(Promise.LOST, "2")]


def test_a_message_that_many_miss_is_one_lost_message() -> None:
    chains = [Chain(uid, "a", [page(3.0)]) for uid in USERS]
    assert check(history_of(sent("business/global"), chains=chains)).counts() == {Promise.LOST: 1}


def test_what_nobody_acknowledged_is_not_owed() -> None:
    unanswered = sent(acknowledged=NEVER)
    verdict = check(history_of(unanswered, chains=[Chain("2", "a", [page(3.0)])]))
    assert (verdict.findings, verdict.acknowledged) == ([], 0)


@pytest.mark.parametrize(("archived", "excused"), [(True, False), (False, True)])
def test_only_what_was_not_archived_may_be_lost_with_the_disk(archived: bool, excused: bool) -> None:
    lost = sent()
    loss = Loss(2.5, 3.0, frozenset({lost.message} if archived else ()))
    verdict = check(history_of(lost, losses=[loss], chains=[Chain("2", "a", [page(4.0)])]))
    assert (verdict.findings == []) == excused
    assert verdict.lost_with_disk == excused


def test_what_was_acknowledged_after_the_loss_is_owed() -> None:
    later = sent(begun=5.0, acknowledged=6.0)
    verdict = check(history_of(later, losses=[Loss(2.5, 3.0)], chains=[Chain("2", "a", [page(7.0)])]))
    assert verdict.counts() == {Promise.LOST: 1}


def test_a_resend_that_a_lost_store_did_not_know_is_no_repeat() -> None:
    message = sent()
    given = Given(50, 50, "single/2", "1", "m", "text")
    chain = Chain("2", "a", [page(3.0, given, given._replace(last_id=60, mid=60))])
    assert check(history_of(message, chains=[chain])).counts()[Promise.REPEATED] == 1
    excused = check(history_of(message, chains=[chain], losses=[Loss(2.0, 2.5)]))
    assert (excused.findings, excused.stored_again) == ([], 1)


@pytest.mark.parametrize(("begun", "ended", "excused"), [(1.2, 1.8, True), (0.1, 1.2, True), (2.1, 2.9, False)])
def test_only_what_is_not_answered_yet_may_get_another_id_when_a_replica_takes_over(
    begun: float, ended: float, excused: bool
) -> None:
    message = sent(begun=1.0, acknowledged=2.0)
    given = Given(50, 50, "single/2", "1", "m", "text")
    chain = Chain("2", "a", [page(3.0, given, given._replace(last_id=60, mid=60))])
    verdict = check(history_of(message, chains=[chain], takeovers=[Takeover(begun, ended)]))
    assert (verdict.findings == []) == excused
    assert verdict.stored_again == excused


def test_what_left_the_window_before_it_could_be_pulled_is_not_owed() -> None:
    chain = Chain("2", "a", [page(20.0)])
    assert check(history_of(sent(), chains=[chain])).counts() == {Promise.LOST: 1}
    assert check(history_of(sent(), chains=[chain], window=10.0)).findings == []


GROUP_TOPIC = "group/7"


@pytest.mark.parametrize(
    ("begun", "acknowledged", "sees"),
    [
        (0.5, 0.9, False),  # before they joined
        (0.5, 1.5, None),  # while they joined
        (2.5, 3.0, True),
        (2.5, 4.5, None),
        (4.2, 4.4, None),
        (5.5, 6.0, False),  # after they left
        (6.5, 7.5, None),  # a join that nobody answered
        (9.0, 9.5, None),
    ],
)
def test_membership_holds_from_one_answer_to_the_next_command(
    begun: float, acknowledged: float, sees: bool | None
) -> None:
    moves = [
        Membership(GROUP_TOPIC, "2", True, 1.0, 2.0),
        Membership(GROUP_TOPIC, "2", False, 4.0, 5.0),
        Membership(GROUP_TOPIC, "2", True, 7.0),
    ]
    message = sent(GROUP_TOPIC, begun, acknowledged)
    assert Audience(history_of(message, memberships=moves)).sees("2", message) is sees


def test_a_membership_that_a_store_may_have_lost_decides_nothing() -> None:
    moves = [Membership(GROUP_TOPIC, "2", True, 1.0, 2.0)]
    message = sent(GROUP_TOPIC, 5.0, 6.0)
    history = history_of(message, memberships=moves, losses=[Loss(3.0, 4.0)])
    assert Audience(history).sees("2", message) is None


def test_who_left_and_is_let_in_again_by_a_loss_gets_what_lies_below_their_cursor() -> None:
    moves = [Membership(GROUP_TOPIC, "2", True, 0.1, 0.2), Membership(GROUP_TOPIC, "2", False, 0.5, 0.6)]
    given = Given(50, 50, GROUP_TOPIC, "1", "m", "text")
    chain = Chain("2", "a", [page(3.0), replace(page(9.0, given), reset=True, known_epoch="d")])
    message = sent(GROUP_TOPIC)
    verdict = check(history_of(message, memberships=moves, chains=[chain], losses=[Loss(5.0, 6.0)]))
    assert verdict.findings == []
    stayed = check(history_of(message, memberships=moves[:1], chains=[chain], losses=[Loss(0.0, 0.05)]))
    assert Promise.SKIPPED in stayed.counts()


def test_a_pull_during_an_edit_may_give_either_text() -> None:
    message = sent()
    change = Change(message.message, "new", 3.5, 4.5)
    for begun, content, edited, promise in [
        (3.0, "text", False, None),
        (3.0, "new", True, None),
        (5.0, "new", True, None),
        (5.0, "text", False, Promise.ALTERED),
        (2.0, "new", True, Promise.ALTERED),
    ]:
        given = Given(50, 50, "single/2", "1", "m", content, False, edited)
        chain = Chain("2", "a", [page(begun, given)])
        found = check(history_of(message, changes=[change], chains=[chain])).counts()
        assert found == ({promise: 1} if promise else {}), (begun, content)
