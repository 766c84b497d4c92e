"""`/hooks/client` and `/hooks/will`: who is online, whatever order the broker's events come in."""

import time
from typing import Any

import pytest

from store.presence.presence import MAX_STEP
from tests.integration.app import App, new_uid
from tests.recorded import recorded

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT = time.time_ns() // 1_000_000
CONNECTED, DISCONNECTED, WILL = (
    recorded(name)[0] for name in ("client_connected", "client_disconnected", "publish_will")
)


class Devices:
    """Reports one user's devices as the broker does."""

    def __init__(self, app: App, uid: str) -> None:
        self.app = app
        self.uid = uid

    async def connect(self, device: str, at: int, **changed: Any) -> None:
        await self._send("client", CONNECTED, device, connected_at=at, timestamp=at, **changed)

    async def disconnect(self, device: str, connected_at: int, reason: str = "tcp_closed", **changed: Any) -> None:
        at = {"connected_at": connected_at, "disconnected_at": connected_at + 50}
        await self._send("client", DISCONNECTED, device, reason=reason, **at, **changed)

    async def die(self, device: str, received_at: int, **changed: Any) -> None:
        await self._send("will", WILL, device, publish_received_at=received_at, topic=f"im/will/{self.uid}", **changed)

    async def _send(self, hook: str, body: dict[str, Any], device: str, **changed: Any) -> None:
        own = {"clientid": f"{self.uid}-{device}", "username": self.uid, **changed}
        assert (await self.app.hook(hook, {**body, **own})).status == 204

    async def online(self) -> dict[str, int]:
        """`connected_at` by device."""
        answer = await self.app.admin("GET", f"/presence?uid={self.uid}")
        user = answer.json["users"][self.uid]
        assert user["online"] == bool(user["devices"])
        return {each["clientid"].removeprefix(f"{self.uid}-"): each["connected_at"] for each in user["devices"]}


@pytest.fixture
def devices(app: App, uid: str) -> Devices:
    return Devices(app, uid)


async def test_recorded_events_bring_a_device_and_take_it_away(app: App) -> None:
    assert (await app.hook("client", CONNECTED)).status == 204
    answer = await app.admin("GET", "/presence?uid=1001")
    at = CONNECTED["connected_at"]
    assert answer.json == {
        "users": {"1001": {"online": True, "devices": [{"clientid": "phone-1001", "connected_at": at}]}}
    }
    assert (await app.hook("client", DISCONNECTED)).status == 204
    assert (await app.admin("GET", "/presence?uid=1001")).json == {"users": {"1001": {"online": False, "devices": []}}}


async def test_a_user_is_online_while_one_of_his_devices_is(devices: Devices) -> None:
    before = (await devices.app.admin("GET", "/presence")).json
    await devices.connect("phone", AT)
    await devices.connect("desk", AT + 1)
    assert await devices.online() == {"phone": AT, "desk": AT + 1}
    after = (await devices.app.admin("GET", "/presence")).json
    assert (after["online_users"], after["online_devices"]) == (
        before["online_users"] + 1,
        before["online_devices"] + 2,
    )
    await devices.disconnect("phone", AT)
    assert await devices.online() == {"desk": AT + 1}
    await devices.disconnect("desk", AT + 1)
    assert await devices.online() == {}
    assert (await devices.app.admin("GET", "/presence")).json == before


async def test_events_that_come_twice_count_once(devices: Devices) -> None:
    before = (await devices.app.admin("GET", "/presence")).json
    for _ in range(2):
        await devices.connect("phone", AT)
    for _ in range(2):
        await devices.disconnect("phone", AT)
    assert await devices.online() == {}
    assert (await devices.app.admin("GET", "/presence")).json == before


@pytest.mark.parametrize("reason", ["takenover", "discarded"])
async def test_a_takeover_is_no_departure(devices: Devices, reason: str) -> None:
    await devices.connect("phone", AT)
    await devices.disconnect("phone", AT, reason)
    assert await devices.online() == {"phone": AT}
    await devices.connect("phone", AT + 10)
    await devices.disconnect("phone", AT, reason)
    assert await devices.online() == {"phone": AT + 10}


@pytest.mark.parametrize("reason", ["normal", "tcp_closed", "keepalive_timeout", "kicked", "expired"])
async def test_every_other_reason_is_one(devices: Devices, reason: str) -> None:
    await devices.connect("phone", AT)
    await devices.disconnect("phone", AT, reason)
    assert await devices.online() == {}


async def test_an_older_connect_that_comes_late_changes_nothing(devices: Devices) -> None:
    await devices.connect("phone", AT + 10)
    await devices.connect("phone", AT)
    assert await devices.online() == {"phone": AT + 10}


async def test_a_disconnect_of_another_connection_changes_nothing(devices: Devices) -> None:
    await devices.connect("phone", AT + 10)
    for other in (AT, AT + 20):
        await devices.disconnect("phone", other)
    assert await devices.online() == {"phone": AT + 10}


async def test_a_disconnect_that_overtook_its_connect_counts(devices: Devices) -> None:
    await devices.disconnect("phone", AT)
    await devices.connect("phone", AT)
    assert await devices.online() == {}
    await devices.connect("phone", AT + 10)
    assert await devices.online() == {"phone": AT + 10}


@pytest.mark.parametrize(("after", "online"), [(1, {}), (0, {"phone": AT}), (-MAX_STEP - 1, {"phone": AT})])
async def test_a_will_counts_if_the_connection_held_is_clearly_older(
    devices: Devices, after: int, online: dict[str, int]
) -> None:
    await devices.connect("phone", AT)
    await devices.die("phone", AT + MAX_STEP + after)
    assert await devices.online() == online


async def test_a_will_of_another_node_changes_nothing(devices: Devices) -> None:
    """The device has moved, and the clock of the node that it left goes ahead."""
    await devices.connect("phone", AT)
    await devices.die("phone", AT + 2 * MAX_STEP, node="emqx@another")
    assert await devices.online() == {"phone": AT}


async def test_a_device_that_moves_stays_online_whatever_the_clocks_say(devices: Devices) -> None:
    """The connect to a node whose clock is behind comes before the disconnect from the one that it left."""
    await devices.connect("phone", AT)
    await devices.connect("phone", AT - 2000, node="emqx@another")
    await devices.disconnect("phone", AT)
    assert await devices.online() == {"phone": AT - 2000}
    await devices.disconnect("phone", AT - 2000, node="emqx@another")
    assert await devices.online() == {}


async def test_after_a_will_its_disconnect_changes_nothing_more(devices: Devices) -> None:
    await devices.connect("phone", AT)
    await devices.connect("desk", AT)
    await devices.die("phone", AT + MAX_STEP + 1)
    await devices.disconnect("phone", AT)
    assert await devices.online() == {"desk": AT}


async def test_a_will_for_another_user_changes_nothing(devices: Devices) -> None:
    await devices.connect("phone", AT)
    await devices.die("phone", AT + MAX_STEP + 1, username=new_uid())
    assert await devices.online() == {"phone": AT}


@pytest.mark.parametrize("username", ["ops", "undefined", "0", "+"])
async def test_system_clients_have_no_presence(app: App, username: str) -> None:
    before = (await app.admin("GET", "/presence")).json
    for hook, body in (("client", CONNECTED), ("client", DISCONNECTED), ("will", WILL)):
        assert (await app.hook(hook, {**body, "username": username, "topic": f"im/will/{username}"})).status == 204
    assert (await app.admin("GET", "/presence")).json == before


@pytest.mark.parametrize("name", ["client_connected", "client_disconnected", "session_subscribed", "delivery_dropped"])
async def test_every_recorded_event_is_taken(app: App, name: str) -> None:
    for body in recorded(name):
        assert (await app.hook("client", {"hook": "client", **body})).status == 204


async def test_dropped_deliveries_are_counted_by_reason(app: App) -> None:
    sample = 'emqx_im_broker_deliveries_dropped_total{reason="queue_full"}'
    before = await app.metric(sample)
    await app.hook("client", recorded("delivery_dropped")[0])
    assert await app.metric(sample) == before + 1


@pytest.mark.parametrize(
    ("hook", "body", "field"),
    [
        ("client", CONNECTED, "event"),
        ("client", CONNECTED, "clientid"),
        ("client", CONNECTED, "connected_at"),
        ("client", CONNECTED, "username"),
        ("client", DISCONNECTED, "clientid"),
        ("client", DISCONNECTED, "connected_at"),
        ("will", WILL, "topic"),
        ("will", WILL, "clientid"),
        ("will", WILL, "username"),
        ("will", WILL, "publish_received_at"),
    ],
)
@pytest.mark.parametrize("value", [..., 1.5, [], {}])
async def test_malformed_events_are_refused(
    app: App, hook: str, body: dict[str, Any], field: str, value: object
) -> None:
    changed = {name: given for name, given in body.items() if name != field}
    answer = await app.hook(hook, changed if value is ... else {**changed, field: value})
    assert (answer.status, answer.code) == (400, "bad_body")


async def test_presence_of_many_users_is_asked_at_once(app: App) -> None:
    uids = [new_uid() for _ in range(50)]
    await Devices(app, uids[7]).connect("phone", AT)
    users = (await app.admin("GET", f"/presence?uid={','.join(uids)}")).json["users"]
    assert list(users) == uids
    assert [uid for uid in uids if users[uid]["online"]] == [uids[7]]


@pytest.mark.parametrize("uids", ["", "0", "1,", "a", "1,,2", "-1", "1;2"])
async def test_malformed_users_are_refused(app: App, uids: str) -> None:
    answer = await app.admin("GET", f"/presence?uid={uids}")
    assert (answer.status, answer.code) == (400, "bad_argument")
