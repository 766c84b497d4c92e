"""The service's calls of the REST API about clients, against the broker that answers as EMQX recorded."""

from collections.abc import AsyncIterator

import pytest

from hooks.emqx import rest as emqx_rest
from hooks.emqx.rest import BrokerAway, BrokerRefused, Client, Rest
from hooks.metrics import Metrics
from tests.integration.dev.conftest import Embedded, bound


@pytest.fixture
async def rest(embedded: Embedded) -> AsyncIterator[Rest]:
    client = Rest(embedded.api.removesuffix("/api/v5"), "key", "secret", Metrics())
    yield client
    await client.close()


async def test_sessions_of_users_kept_ones_too(embedded: Embedded, rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emqx_rest, "_PAGE", 2)
    async with embedded.client("1001", "kept", clean_session=False):
        pass
    async with embedded.client("1001"), embedded.client("1002"), embedded.client("1003"):
        first, more = await rest.clients_of(["1001", "1002", "77"])
        second, yet_more = await rest.clients_of(["1001", "1002", "77"], 2)
        sessions = embedded.broker.sessions
        assert sorted(first + second) == [
            Client(f"{uid}-{device}", uid, connected, sessions[f"{uid}-{device}"].client.connected_at)
            for uid, device, connected in (("1001", "kept", False), ("1001", "phone", True), ("1002", "phone", True))
        ]
    assert (len(first), more, len(second), yet_more) == (2, True, 1, False)


async def test_subscribe_and_unsubscribe_others(embedded: Embedded, rest: Rest) -> None:
    async with embedded.client("1001", "a/b ?%", clean_session=False):
        await rest.subscribe("1001-a/b ?%", ["group/7", "group/8"])
        session = embedded.broker.sessions["1001-a/b ?%"]
        assert session.subscriptions == {"group/7": 1, "group/8": 1}
    await rest.unsubscribe("1001-a/b ?%", ["group/7"])
    assert session.subscriptions == {"group/8": 1}


async def test_a_dropped_cache_is_asked_again(embedded: Embedded, rest: Rest) -> None:
    async with embedded.client("1001") as client:
        for _ in range(2):
            await client.subscribe("group/7", qos=1)
        assert len(embedded.service.questions) == 1
        await rest.drop_cache("1001-phone")
        await client.subscribe("group/7", qos=1)
        assert len(embedded.service.questions) == 2


async def test_who_is_gone_needs_nothing(rest: Rest) -> None:
    assert await rest.clients_of(["1001"]) == ([], False)
    await rest.drop_cache("1001-phone")
    await rest.subscribe("1001-phone", ["group/7"])
    await rest.unsubscribe("1001-phone", ["group/7"])


async def test_a_wrong_key_is_refused_and_silence_is_away(embedded: Embedded) -> None:
    address = embedded.api.removesuffix("/api/v5")
    with bound() as nobody:
        port = nobody.getsockname()[1]
        for url, key, error in ((address, "wrong", BrokerRefused), (f"http://127.0.0.1:{port}", "key", BrokerAway)):
            client = Rest(url, key, "secret", Metrics())
            with pytest.raises(error):
                await client.clients_of(["1001"])
            await client.close()
