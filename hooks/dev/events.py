"""The broker's events, with the columns that EMQX 5.8 gives each of them. `None` is EMQX's `undefined`."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

Columns = Mapping[str, Any]

NODE = "emqx-im@127.0.0.1"

PRODUCED = {
    "$events/client_connected": "client.connected",
    "$events/client_disconnected": "client.disconnected",
    "$events/session_subscribed": "session.subscribed",
    "$events/session_unsubscribed": "session.unsubscribed",
}
"""Maps what a rule's FROM may name to the events that it then gets."""

NEVER_FIRED = frozenset(
    f"$events/{name}"
    for name in (
        "client_connack",
        "client_check_authn_complete",
        "client_check_authz_complete",
        "delivery_dropped",
        "message_acked",
        "message_delivered",
        "message_dropped",
    )
)
"""Events of EMQX that this broker does not have; a rule may name them, but never fires."""

_NAMES = """
    action authz_source clean_start client_attrs clientid conn_props connected_at disconn_props
    disconnected_at event expiry_interval flags from_clientid from_username id is_bridge keepalive metadata
    mountpoint node payload peerhost peername proto_name proto_ver pub_props publish_received_at puback_props
    qos reason reason_code receive_maximum result sockname sub_props timestamp topic unsub_props username
"""
COLUMNS = frozenset(_NAMES.split())
"""Every column that one of these events has in EMQX."""

RECEIVE_MAXIMUM = 32
SESSION_EXPIRY_SECONDS = 7200


@dataclass
class EventClient:
    """One connection, as its events tell of it. auth_expire_at: when the token ends that was asked for (ms)."""

    clientid: str
    username: str
    peerhost: str
    peername: str
    sockname: str
    proto_name: str
    proto_ver: int
    keepalive: int
    clean_start: bool
    connected_at: int = 0
    auth_expire_at: int | None = None


_process = secrets.token_bytes(6)
_sequence = count()


def message_id() -> str:
    """Returns 32 hex digits: microseconds, the process, a counter."""
    return f"{time.time_ns() // 1000:016X}{_process.hex().upper()}{next(_sequence) % 65_536:04X}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class EventMessage:
    """A publish. One from the REST API has no username, a will has no peer."""

    topic: str
    payload: bytes
    qos: int
    clientid: str
    username: str | None = None
    peerhost: str | None = None
    peername: str | None = None
    retain: bool = False
    dup: bool | None = False
    id: str = field(default_factory=message_id)
    received_at: int = field(default_factory=now_ms)


def published(message: EventMessage) -> Columns:
    flags = {"retain": message.retain}
    return _event(
        "message.publish",
        id=message.id,
        clientid=message.clientid,
        username=message.username,
        payload=message.payload,
        peerhost=message.peerhost,
        peername=message.peername,
        topic=message.topic,
        qos=message.qos,
        flags=flags if message.dup is None else {**flags, "dup": message.dup},
        pub_props=_no_properties(),
        publish_received_at=message.received_at,
        client_attrs={},
    )


def connected(client: EventClient) -> Columns:
    return _event(
        "client.connected",
        clientid=client.clientid,
        username=client.username,
        mountpoint=None,
        peername=client.peername,
        sockname=client.sockname,
        proto_name=client.proto_name,
        proto_ver=client.proto_ver,
        keepalive=client.keepalive,
        clean_start=client.clean_start,
        receive_maximum=RECEIVE_MAXIMUM,
        expiry_interval=0 if client.clean_start else SESSION_EXPIRY_SECONDS,
        is_bridge=False,
        conn_props=_no_properties(),
        connected_at=client.connected_at,
        client_attrs={},
    )


def disconnected(client: EventClient, reason: str) -> Columns:
    return _event(
        "client.disconnected",
        reason=reason,
        clientid=client.clientid,
        username=client.username,
        peername=client.peername,
        sockname=client.sockname,
        proto_name=client.proto_name,
        proto_ver=client.proto_ver,
        disconn_props=_no_properties(),
        disconnected_at=now_ms(),
        connected_at=client.connected_at,
        client_attrs={},
    )


def subscribed(client: EventClient, topic: str, qos: int) -> Columns:
    return _subscription("session.subscribed", "sub_props", client, topic, qos)


def unsubscribed(client: EventClient, topic: str, qos: int) -> Columns:
    return _subscription("session.unsubscribed", "unsub_props", client, topic, qos)


def _subscription(name: str, properties: str, client: EventClient, topic: str, qos: int) -> Columns:
    return _event(
        name,
        clientid=client.clientid,
        username=client.username,
        peerhost=client.peerhost,
        peername=client.peername,
        topic=topic,
        qos=qos,
        client_attrs={},
        **{properties: _no_properties()},
    )


def _event(name: str, **columns: Any) -> Columns:
    return {**columns, "event": name, "timestamp": now_ms(), "node": NODE}


def _no_properties() -> dict[str, Any]:
    return {"User-Property": {}}
