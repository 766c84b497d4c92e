"""Tests what presence asks of Redis for many users, and how it reads the answers."""

from typing import Any

import pytest

from store.presence import presence as module
from store.presence.presence import Came, Device, Presence, device_at
from store.redis import keys
from tests.unit.redis.fakes import FakeRedis


class Users(FakeRedis):
    """devices: for each user clientid to connections, as Redis holds them. asked: how many each script call was for."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: dict[int, dict[str, str]] = {}
        self.asked: list[int] = []
        self.too_many: list[tuple[int, str]] = []
        self.answers(module._DEVICES, self._devices)
        self.answers(module._CONNECT, self._connect)
        self.answers(module._DISCONNECT, self._disconnect)

    def _devices(self, names: list[Any], arguments: list[Any]) -> list[Any]:
        uids = arguments[1:]
        self.asked.append(len(uids))
        return [
            part
            for uid in uids
            for part in (
                b"%d" % uid,
                [text.encode() for device in self.devices.get(uid, {}).items() for text in device],
            )
        ]

    def _connect(self, names: list[Any], arguments: list[Any]) -> list[Any]:
        devices = (len(arguments) - len(module._CONNECT.source.arguments)) // 4
        self.asked.append(devices)
        told, self.too_many = self.too_many, []
        return [devices, 0, [part for uid, clientid in told for part in (b"%d" % uid, clientid.encode())]]

    def _disconnect(self, names: list[Any], arguments: list[Any]) -> list[int]:
        devices = (len(arguments) - len(module._DISCONNECT.source.arguments)) // 4
        self.asked.append(devices)
        return [devices, 0]

    async def sscan(self, key: bytes, cursor: int, count: int) -> tuple[int, list[bytes]]:
        numbers = sorted({uid // keys.USERS_PER_BITMAP for uid in self.devices})
        return (cursor + 1 if cursor + 1 < len(numbers) else 0), [b"%d" % number for number in numbers[cursor:][:1]]

    async def mget(self, names: Any) -> list[bytes | None]:
        return [self._bitmap(name) for name in names]

    def _bitmap(self, name: bytes) -> bytes | None:
        bits = bytearray(keys.USERS_PER_BITMAP // 8)
        for uid in self.devices:
            number, place = divmod(uid, keys.USERS_PER_BITMAP)
            if keys.bitmap(number) == name:
                bits[place // 8] |= 128 >> place % 8
        return bytes(bits).rstrip(b"\0") or None


@pytest.fixture
def users() -> Users:
    return Users()


@pytest.fixture
def presence(users: Any) -> Presence:
    return Presence(users)


async def test_a_device_that_moves_is_held_by_several_connections(users: Users, presence: Presence) -> None:
    users.devices = {1: {"1-phone": "500:aa,900:bb:x", "1-desk": "700"}}
    assert await presence.connections([1, 2]) == {
        1: [Device(1, "1-phone", 500, "aa"), Device(1, "1-phone", 900, "bb"), Device(1, "1-desk", 700)],
        2: [],
    }
    assert await presence.devices([1, 2]) == {1: {"1-desk": 700, "1-phone": 900}, 2: {}}


async def test_many_users_are_asked_for_in_parts(users: Users, presence: Presence) -> None:
    wanted = range(1, 1202)
    users.devices = {1201: {"1201-phone": "5"}}
    found = await presence.connections(wanted)
    assert users.asked == [500, 500, 201]
    assert [*found] == [*wanted]
    assert found[1201] == [Device(1201, "1201-phone", 5)]


async def test_many_connects_are_told_in_parts(users: Users, presence: Presence) -> None:
    users.too_many = [(3, "3-old")]
    devices = [Device(uid, f"{uid}-phone", 1) for uid in range(1, 502)]
    assert await presence.connected(*devices) == Came(501, [(3, "3-old")])
    assert users.asked == [500, 1]
    assert await presence.connected() == Came(0, [])


async def test_connections_that_the_broker_does_not_list_go_in_parts(users: Users, presence: Presence) -> None:
    assert await presence.unlisted(*(Device(uid, "d", 1) for uid in range(1, 1002))) == 1001
    assert users.asked == [500, 500, 1]
    assert await presence.unlisted() == 0


async def test_everybody_is_found_by_the_bits_that_are_set(users: Users, presence: Presence) -> None:
    first, last, far = 1, keys.USERS_PER_BITMAP - 1, 7 * keys.USERS_PER_BITMAP + 4001
    users.devices = {uid: {f"{uid}-phone": "9:aa"} for uid in (first, last, far)}
    pages = [page async for page in presence.everybody()]
    assert [device.uid for page in pages for device in page] == [first, last, far]
    assert pages[-1] == [Device(far, f"{far}-phone", 9, "aa")]


def test_a_node_is_held_by_a_short_mark() -> None:
    one, other = (device_at(node, 1, "1-phone", 5) for node in ("emqx@10.0.0.1", "emqx@10.0.0.2"))
    assert one.node != other.node
    assert len(one.node) == 8
    assert device_at("emqx@10.0.0.1", 2, "d", 6).node == one.node
