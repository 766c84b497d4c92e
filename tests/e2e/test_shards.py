"""What users see where the timelines lie on three shards: those of one server, and those of a real cluster."""

import asyncio
import itertools
from collections.abc import Callable, Iterator

import aiohttp
import pytest

from store.redis.shards import shard_among
from tests.cluster import TestCluster
from tests.e2e import test_groups, test_messages, test_recalls, test_tags
from tests.e2e.clients import Aiomqtt, Mqtt
from tests.e2e.conftest import running
from tests.e2e.shards import SHARDS, ClusterStack
from tests.e2e.stack import Service, Stack
from tests.e2e.test_messages import message
from tests.e2e.waiting import until
from tests.servers import program

User = Callable[[], int]


def _uids_of_each_shard_in_turn() -> Iterator[int]:
    candidates = itertools.count(1001, 8192)
    for shard in itertools.cycle(range(SHARDS)):
        yield next(uid for uid in candidates if shard_among(uid, SHARDS) == shard)


_uids = _uids_of_each_shard_in_turn()


@pytest.fixture(scope="module", params=["server", "cluster"])
def shared_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "server":
        yield from running(Stack(directory, IM_SHARDS=str(SHARDS)))
        return
    with TestCluster(directory / "cluster", program("redis-server")).started() as cluster:
        yield from running(ClusterStack(directory, cluster))


@pytest.fixture
def user() -> User:
    return lambda: next(_uids)


@pytest.fixture
def mqtt() -> Mqtt:
    return Aiomqtt()


test_a_message_to_an_offline_user_is_pulled = test_messages.test_a_message_to_an_offline_user_is_pulled
test_the_order_is_kept = test_messages.test_the_order_is_kept
test_a_resend_is_stored_once = test_messages.test_a_resend_is_stored_once
test_the_archive_holds_each_message_once = test_messages.test_the_archive_holds_each_message_once
test_presence_follows_connect_takeover_and_death = test_messages.test_presence_follows_connect_takeover_and_death
test_create_subscribe_and_invite = test_groups.test_create_subscribe_and_invite
test_each_member_sees_his_own_time = test_groups.test_each_member_sees_his_own_time
test_two_devices_at_two_places_both_get_all = test_groups.test_two_devices_at_two_places_both_get_all
test_a_kicked_member_hears_nothing_more = test_groups.test_a_kicked_member_hears_nothing_more
test_two_phones = test_recalls.test_two_phones
operator = test_tags.operator
test_a_message_reaches_exactly_the_holders = test_tags.test_a_message_reaches_exactly_the_holders
test_a_new_set_takes_effect_at_once = test_tags.test_a_new_set_takes_effect_at_once
test_following = test_tags.test_following


async def once_it_waits(stack: Stack, http: aiohttp.ClientSession) -> None:
    async def waits() -> bool | None:
        async with http.get(f"{stack.url}/metrics") as answer:
            return "emqx_im_waiting_pulls 1.0" in (await answer.text()).splitlines() or None

    await until(waits)


async def test_a_pull_that_waits_is_answered_by_the_news_of_its_shard(
    shared_stack: Stack, service: Service, http: aiohttp.ClientSession, mqtt: Mqtt, user: User
) -> None:
    for _ in range(SHARDS):
        receiver = user()
        begin = (await service.page(receiver))["last_id"]
        waiting = asyncio.create_task(service.page(receiver, begin, wait=60))
        await once_it_waits(shared_stack, http)
        await mqtt.publish(shared_stack, user(), f"single/{receiver}", [message("news")])
        page = await asyncio.wait_for(waiting, 30)
        assert [entry["id"] for entry in page["messages"]] == ["news"]
