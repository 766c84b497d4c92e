"""Tests that this build reads what the scripts write into the outbox: every kind, each with its version."""

from typing import Any

import pytest

from store.addresses import Inbox
from store.archive.handlers import handlers
from store.archive.outbox import MESSAGES, VERSIONS
from store.bans.bans import Bans
from store.operations.audit import Audit, AuditedCall
from store.redis import keys
from store.states import states
from store.states.states import States
from tests.integration.groups.conftest import GID, WINDOW_US
from tests.integration.tags.conftest import TAG, Store, user


async def test_every_kind_that_the_scripts_write_is_decoded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states, "MAX_MARKS", 1)
    bounds: Any = {"window_us": WINDOW_US, "repeat_seconds": 3600, "outbox_limit": 2**30}
    await store.tags.put(TAG, title="Women", followable=False)
    await store.give(2, 3)
    await store.create(2, 3)
    await store.command("admin", GID, 1, members=[3], on=True)
    await store.command("mute", GID, 1, members=[2], seconds=60)
    sent = [await store.say(1), await store.say(1, -2), await store.say(3, -1)]
    recalled = await store.replace("recall", Inbox(2), sent[1].mid, 1)
    marks = States(store.write_connection, store.archive, **bounds)
    for peer in (2, 3):
        await marks.read(1, Inbox(peer), sent[2].mid, command_id=f"read {peer}")
    await Bans(store.redis, store.write_connection, **bounds).put(9, 60, "rude")
    call = AuditedCall("ann", "127.0.0.1", "PUT /admin/users/9/ban", 200, {})
    await Audit(store.archive, store.outbox, store.write_connection, **bounds).put(call)

    entries: Any = await store.redis.xrange(keys.OUTBOX)
    assert {fields[b"v"] for _, fields in entries} <= VERSIONS
    kinds = handlers(store.archive)
    decoded: dict[bytes, list[Any]] = {kind: [] for kind in kinds}
    for entry in await store.outbox.read(1000):
        decoded[entry.kind].append(kinds[entry.kind].decode(entry.data))
    # Messages that were written together are read one by one.
    assert [kind for kind, found in decoded.items() if not found] == [MESSAGES]
    assert [each.tag for each in decoded[b"tag"]] == [TAG]
    assert [each.uid for rows in decoded[b"holder"] for each in rows] == [user(2), user(3)]
    assert {each.owner for each in decoded[b"group"]} == {1}
    assert sorted(each.uid for rows in decoded[b"member"] for each in rows) == [1, 2, 3]
    assert {each.gid for each in decoded[b"moderation"]} == {GID}
    assert [each.uid for rows in decoded[b"mute"] for each in rows] == [2]
    assert {each.mid for each in sent} <= {each.mid for each in decoded[b"message"]}
    assert [(each.mid, each.replaced) for each in decoded[b"replace"]] == [(sent[1].mid, recalled.id)]
    assert {each.uid for each in decoded[b"state"]} == {1, 3}
    assert [(each.uid, each.name) for each in decoded[b"state_gone"]] == [(1, b"r:single/2")]
    assert [each.uid for each in decoded[b"ban"]] == [9]
    assert [each.path for each in decoded[b"audit"]] == [call.path]
