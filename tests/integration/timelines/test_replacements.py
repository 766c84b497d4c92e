"""Recalling and editing at the store: who may, until when, and what is given from then on."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from hooks.messaging.group_notices import GroupControlMessages
from hooks.messaging.replacement_notices import ReplacementControlMessages, read_report
from store.addresses import GLOBAL, Address, Group, Inbox, Tag
from store.errors import ChannelRefused, SenderOverBudget, StoreAway
from store.groups.context import CommandContext
from store.groups.groups import Limits
from store.record import Message
from store.redis import keys
from store.redis.budget import Budget
from store.redis.client import RedisClient
from store.redis.connection import connect
from store.timelines.hot_channels import HotChannels
from store.timelines.pull import Puller
from store.timelines.replacements import OPERATOR, Replaced, Replacements
from store.timelines.sweep import Sweeper
from tests.integration.groups.conftest import WINDOW_US
from tests.integration.groups.conftest import Store as GroupStore
from tests.servers import RedisServer

LIMITS = Limits(write=500, read=1000, user=100, groups=100, made=100, known=False)
SECRET = b"a secret"
NOTICES = GroupControlMessages("hmac")
REPLACED = ReplacementControlMessages("hmac")


class Store(GroupStore):
    """The store as a service has it, with two processes' pullers."""

    def __init__(self, url: str, directory: Path, limits: Limits) -> None:
        super().__init__(url, directory, limits)
        self.hot = HotChannels(self.redis, 0.5, read_report)
        self.cold = Puller(self.redis, self.archive, self.outbox, window_us=WINDOW_US, roaming_us=WINDOW_US)
        self.warm = self.new_puller(self.hot)
        self.replacements = self.replacing()
        self.commands = 0

    def replacing(self, **given: Any) -> Replacements:
        seconds = {"recall_seconds": 120, "edit_seconds": 900}
        return Replacements(self.write_connection, self.archive, self.outbox, **{**self._bounds, **seconds, **given})

    async def send(self, to: Address, sender: int | str, client_id: str = "m", payload: bytes = b"") -> int:
        body = payload or b'{"id":"%b","body":"%b"}' % (client_id.encode(), SECRET)
        return (await self.appender.append(to, str(sender), client_id, 0, body[:1] == b"{", body)).mid

    def _command(self, given: dict[str, Any]) -> dict[str, Any]:
        self.commands += 1
        return {"command_id": f"c{self.commands}", "sent_at": time.time_ns() // 1_000_000, "notices": REPLACED, **given}

    async def recall(self, to: Address, mid: int, actor: int, **given: Any) -> Replaced:
        return await self.replacements.recall(to, mid, actor, **self._command(given))

    async def edit(self, to: Address, mid: int, actor: int, text: str = "edited", **given: Any) -> Replaced:
        content = {"type": "text", "body": text}
        return await self.replacements.edit(to, mid, actor, **self._command({"content": content, **given}))

    async def pulled(self, uid: int, puller: Puller | None = None, cursor: int = 0) -> list[Message]:
        return (await (puller or self.cold).pull(uid, cursor, 1000)).messages

    async def group(self, gid: int, owner: int, *members: int, mode: str = "write") -> Group:
        await self.groups.create(CommandContext(gid, owner, f"g{gid}", NOTICES), members=members, mode=mode)
        return Group(gid)

    async def lies_anywhere(self, text: bytes) -> list[Any]:
        """The keys of Redis whose content has a text, but for the outbox."""
        found = []
        for key in await self.redis.keys("*"):
            if key != keys.OUTBOX and text in (await self.redis.dump(key) or b""):
                found.append(key)
        return found


@pytest.fixture
async def store(redis: RedisClient, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(redis_server.url, tmp_path, LIMITS)
    await made.start()
    await redis.config_set("rdbcompression", "no")
    yield made
    await made.stop()


def bodies(told: Mapping[str, bytes]) -> dict[str, Any]:
    return {topic: orjson.loads(payload)["body"] for topic, payload in told.items()}


async def test_a_private_message_is_taken_back_from_both(store: Store) -> None:
    mid = await store.send(Inbox(2), 1)
    done = await store.recall(Inbox(2), mid, 1)
    told = {"topic": "single/2", "mid": mid, "by": "1"}
    assert bodies(done.told) == {"single/2": told, "single/1": told}
    assert await store.lies_anywhere(SECRET) == []
    for uid in (1, 2):
        message, notice = await store.pulled(uid)
        assert (message.mid, message.payload, message.recalled_by, message.replaced) == (mid, b"", "1", done.id)
        assert (notice.topic, orjson.loads(notice.payload)["body"]) == (f"single/{uid}", told)
        assert notice.sender == "0"
    assert await store.pulled(3) == []
    await store.archive_all()
    assert await store.archive.message("single/2", mid) == (await store.pulled(2))[0]


async def test_an_edited_message_has_its_id_and_the_new_content(store: Store) -> None:
    mid = await store.send(Inbox(2), 1, 'a"b\\c')
    first = await store.edit(Inbox(2), mid, 1, "first")
    second = await store.edit(Inbox(2), mid, 1, "second")
    message = (await store.pulled(2))[0]
    assert message.json
    assert orjson.loads(message.payload) == {"id": 'a"b\\c', "type": "text", "body": "second"}
    assert (message.client_id, message.replaced, message.recalled_by) == ('a"b\\c', second.id, "")
    assert bodies(first.told)["single/2"] == {"topic": "single/2", "mid": mid, "type": "text", "body": "first"}
    assert await store.lies_anywhere(SECRET) == []


async def test_an_opaque_message_can_be_edited_too(store: Store) -> None:
    mid = await store.send(Inbox(2), 1, "x", b"\x00\n\nopaque")
    await store.edit(Inbox(2), mid, 1)
    assert orjson.loads((await store.pulled(2))[0].payload)["body"] == "edited"


async def test_a_message_to_oneself_is_told_once(store: Store) -> None:
    mid = await store.send(Inbox(1), 1)
    assert list((await store.recall(Inbox(1), mid, 1)).told) == ["single/1"]
    assert len(await store.pulled(1)) == 2


async def refusal(work: Any) -> str:
    with pytest.raises(ChannelRefused) as refused:
        await work
    return refused.value.code


async def test_who_may_and_who_may_not(store: Store) -> None:
    group = await store.group(7, 1, 2, 3)
    to_one, to_group = await store.send(Inbox(2), 1), await store.send(group, 2)
    assert await refusal(store.recall(Inbox(2), to_one, 2)) == "unknown_message"
    assert await refusal(store.recall(Inbox(3), to_one, 1)) == "unknown_message"
    assert await refusal(store.edit(Inbox(2), to_one, 2)) == "unknown_message"
    assert await refusal(store.recall(group, to_one, 1)) == "unknown_message"
    assert await refusal(store.recall(Inbox(2), to_one + 1, 1)) == "unknown_message"
    assert await refusal(store.recall(group, to_group, 3)) == "not_the_sender"
    assert await refusal(store.edit(group, to_group, 1)) == "not_the_sender"
    assert await store.recall(group, to_group, 1), "the owner may"
    await store.archive_all()
    created = (await store.pulled(1))[0]
    assert created.sender == "0"
    assert await refusal(store.recall(Inbox(1), created.mid, OPERATOR)) == "of_the_service"
    by_operators = await store.send(Inbox(2), "0")
    assert await refusal(store.recall(Inbox(2), by_operators, 1)) == "unknown_message"
    assert list((await store.recall(Inbox(2), by_operators, OPERATOR)).told) == ["single/2"]


async def test_nothing_is_told_or_changed_by_what_is_refused(store: Store) -> None:
    mid = await store.send(Inbox(2), 1)
    before = await store.pulled(2)
    await refusal(store.recall(Inbox(2), mid, 2))
    assert await store.pulled(2) == before
    assert await store.outbox.length() == 1


async def test_the_time_counts_from_the_message_to_when_the_broker_had_the_command(store: Store) -> None:
    mid = await store.send(Inbox(2), 1)
    assert await refusal(store.recall(Inbox(2), mid, 1, sent_at=mid // 1000 + 120_002)) == "too_late"
    assert await refusal(store.edit(Inbox(2), mid, 1, sent_at=mid // 1000 + 900_002)) == "too_late"
    await store.edit(Inbox(2), mid, 1, sent_at=mid // 1000 + 899_000)
    first = await store.recall(Inbox(2), mid, 1, sent_at=mid // 1000 + 119_000)
    again = await store.recall(Inbox(2), mid, 1, sent_at=mid // 1000 + 500_000)
    assert again == Replaced(first.id, {}), "recalled before, so it is answered as the first"
    other = await store.send(Inbox(2), 1, "other")
    await store.recall(Inbox(2), other, OPERATOR, sent_at=other // 1000 + 10_000_000)


async def test_a_repeat_is_answered_as_the_first_and_an_edit_of_what_is_recalled_is_refused(store: Store) -> None:
    mid = await store.send(Inbox(2), 1)
    first = await store.edit(Inbox(2), mid, 1, command_id="same")
    assert await store.edit(Inbox(2), mid, 1, "other", command_id="same") == Replaced(first.id, {})
    recalled = await store.recall(Inbox(2), mid, 1, command_id="same")
    assert recalled.id > first.id
    assert await store.recall(Inbox(2), mid, 1, command_id="same") == Replaced(recalled.id, {})
    assert await refusal(store.edit(Inbox(2), mid, 1)) == "recalled"
    assert (await store.appender.append(Inbox(2), "1", "m", 0, True, SECRET)).mid == mid, "a resend is a repeat"
    assert await store.lies_anywhere(SECRET) == []


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_a_group_is_told_in_its_mode_of_that_moment(store: Store, mode: str) -> None:
    group = await store.group(7, 1, 2, 3, mode=mode)
    mid = await store.send(group, 2)
    before = max(message.mid for message in await store.pulled(3))
    await store.groups.change_mode(CommandContext(7, 1, "mode", NOTICES), mode="read" if mode == "write" else "write")
    done = await store.recall(group, mid, 2)
    assert list(done.told) == ["group/7"]
    for uid in (1, 2, 3):
        pulled = await store.pulled(uid)
        assert [message.recalled_by for message in pulled if message.mid == mid] == ["2"]
        assert [message.mid for message in pulled if message.mid > before][-1] == done.id
        assert len({message.mid for message in pulled}) == len(pulled)


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_who_has_left_may_recall_and_not_edit(store: Store, mode: str) -> None:
    group = await store.group(7, 1, 2, 3, mode=mode)
    mid = await store.send(group, 2)
    await store.groups.leave(CommandContext(7, 2, "leave", NOTICES))
    assert await refusal(store.edit(group, mid, 2)) == "not_a_member"
    done = await store.recall(group, mid, 2)
    assert done.id in [message.mid for message in await store.pulled(3)]
    pulled = await store.pulled(2)
    assert done.id not in [message.mid for message in pulled], "what a group is told after they left they do not hear"
    assert [message.recalled_by for message in pulled if message.mid == mid] == ["2"]


@pytest.mark.parametrize("mode", ["write", "read"])
async def test_a_message_of_a_group_that_is_dismissed_can_be_recalled(store: Store, mode: str) -> None:
    group = await store.group(7, 1, 2, mode=mode)
    mid = await store.send(group, 2)
    await store.groups.dismiss(CommandContext(7, 1, "dismiss", NOTICES))
    assert await refusal(store.edit(group, mid, 2)) == "unknown_group"
    assert (await store.recall(group, mid, 2)).told == {}
    assert [message.recalled_by for message in await store.pulled(1) if message.mid == mid] == ["2"]


async def _heat(store: Store, uid: int) -> None:
    await store.pulled(uid, store.warm)
    await store.hot.step(1.0)


@pytest.mark.parametrize("change", ["recall", "edit"])
async def test_a_process_that_holds_the_channel_gives_it_as_it_is_from_then_on(store: Store, change: str) -> None:
    group = await store.group(7, 1, 2, 3, mode="read")
    mid = await store.send(group, 2)
    await store.send(group, 3, "after")
    await _heat(store, 1)
    await _heat(store, 1)
    assert SECRET in next(each.payload for each in await store.pulled(1, store.warm) if each.mid == mid)
    await (store.recall(group, mid, 2) if change == "recall" else store.edit(group, mid, 2))
    assert await store.pulled(1, store.warm) == await store.pulled(1, store.cold)
    await store.hot.step(1.0)
    assert await store.pulled(1, store.warm) == await store.pulled(1, store.cold)
    (changed,) = [message for message in await store.pulled(1, store.warm) if message.mid == mid]
    assert SECRET not in changed.payload


async def test_a_held_channel_is_told_when_the_group_writes_inboxes_by_now(store: Store) -> None:
    group = await store.group(7, 1, 2, 3, mode="read")
    mid = await store.send(group, 2)
    await _heat(store, 1)
    await _heat(store, 1)
    await store.groups.change_mode(CommandContext(7, 1, "mode", NOTICES), mode="write")
    await store.pulled(1, store.warm)
    await store.recall(group, mid, 2)
    assert await store.pulled(1, store.warm) == await store.pulled(1, store.cold)
    assert [message.recalled_by for message in await store.pulled(1, store.warm) if message.mid == mid] == ["2"]


async def test_operators_recall_what_they_sent_to_everybody_or_to_a_tag(store: Store) -> None:
    await store.redis.hset(keys.tag("x"), mapping={"made": "1"})
    for to in (GLOBAL, Tag("x")):
        mid = await store.send(to, "ops")
        done = await store.recall(to, mid, OPERATOR)
        assert bodies(done.told) == {to.topic: {"topic": to.topic, "mid": mid, "by": "0"}}
    assert [message.recalled_by for message in await store.pulled(5)] == ["0", ""]


async def test_a_rebuild_gives_it_as_it_is(store: Store) -> None:
    group = await store.group(7, 1, 2, 3, mode="read")
    recalled, edited, in_group = [
        await store.send(to, 2, client_id) for to, client_id in ((Inbox(1), "a"), (Inbox(1), "b"), (group, "c"))
    ]
    await store.recall(Inbox(1), recalled, 2)
    await store.edit(Inbox(1), edited, 2)
    await store.recall(group, in_group, 1)
    before = await store.pulled(1)
    await store.archive_all()
    await store.redis.flushall()
    await store.recovery.rebuild(store.replacements.highest_id)
    assert await store.pulled(1) == before
    assert await store.lies_anywhere(SECRET) == []
    assert [message.recalled_by for message in before if message.mid == recalled] == ["2"]


async def test_a_pull_from_the_archive_waits_until_that_knows(store: Store) -> None:
    """The user was asleep, so what they were sent comes from the archive, which has the message already."""
    await Sweeper(store.redis, zombie_days=-1, window_us=WINDOW_US, roaming_us=WINDOW_US).sweep()
    mid = await store.send(Inbox(2), 1)
    await store.archive_all()
    await store.pulled(2)
    await store.recall(Inbox(2), mid, 1)
    pulling = asyncio.create_task(store.pulled(2))
    assert not (await asyncio.wait([pulling], timeout=0.3))[0]
    await store.archive_all()
    assert [message.recalled_by for message in await pulling if message.mid == mid] == ["1"]
    pulled = await store.pulled(2)
    assert len(pulled) == 2
    assert await store.redis.zcard(keys.REPLACING) == 0


async def test_a_message_below_the_window_is_recalled_in_the_archive(store: Store) -> None:
    mid = await store.send(Inbox(2), 1)
    await store.archive_all()
    await store.redis.delete(keys.bodies(mid // 1_000_000_000))
    short = {"window_us": 1000}
    store.replacements = store.replacing(**short)
    await asyncio.sleep(0.01)
    other = Inbox(3)
    assert await refusal(store.recall(other, mid, OPERATOR)) == "unknown_message"
    done = await store.recall(Inbox(2), mid, OPERATOR)
    assert sorted(done.told) == ["single/1", "single/2"]
    await store.archive_all()
    message = await store.archive.message("single/2", mid)
    assert message is not None
    assert (message.recalled_by, message.payload) == ("0", b"")


async def test_without_own_copies_a_message_to_somebody_who_is_asleep_is_recalled_in_the_archive(store: Store) -> None:
    """Its body lies nowhere in Redis."""
    store.replacements = store.replacing(sync_sender=False)
    store.appender._sync_sender = False
    await store.redis.hset(keys.DORMANT, "2", "0")
    mid = await store.send(Inbox(2), 1)
    assert await refusal(store.recall(Inbox(2), mid, 1)) == "unknown_message", "a user's command waits for no archive"
    await store.archive_all()
    await store.edit(Inbox(2), mid, 1)
    assert await refusal(store.recall(Inbox(2), mid, 1)) == "unknown_message"
    await store.archive_all()
    done = await store.recall(Inbox(2), mid, 1)
    assert list(done.told) == ["single/2"]
    await store.archive_all()
    message = await store.archive.message("single/2", mid)
    assert message is not None
    assert (message.recalled_by, message.replaced) == ("1", done.id)


async def test_commands_count_in_the_sender_s_budget(store: Store) -> None:
    store.replacements = store.replacing(budget=Budget(3000, 10))
    mid = await store.send(Inbox(2), 1)
    now = time.time_ns() // 1_000_000
    edits = [store.edit(Inbox(2), mid, 1, str(number), received_at=now) for number in range(20)]
    answers = await asyncio.gather(*edits, return_exceptions=True)
    assert {type(answer) for answer in answers} == {Replaced, SenderOverBudget}


async def test_without_redis_nothing_is_done(store: Store, redis_server: RedisServer) -> None:
    away = connect("redis://127.0.0.1:1", single=True)
    store.replacements._script._redis = away
    with pytest.raises(StoreAway):
        await store.recall(Inbox(2), 5, 1)
    await away.aclose()
