"""Tests that this build reads what the scripts write into the outbox: every kind, each with its version."""

from typing import Any

from store.archive.handlers import handlers
from store.archive.outbox import VERSIONS
from store.redis import keys
from tests.integration.tags.conftest import TAG, Store


async def test_every_kind_that_the_scripts_write_is_decoded(store: Store) -> None:
    await store.tags.put(TAG, title="Women", followable=False)
    await store.give(2, 3)
    await store.create(2, 3)
    sent = [await store.say(1), await store.say(1, -2), await store.say(2, -3)]
    entries: Any = await store.redis.xrange(keys.OUTBOX)
    assert {fields[b"v"] for _, fields in entries} <= VERSIONS
    kinds = handlers(store.archive)
    decoded: dict[bytes, list[Any]] = {kind: [] for kind in kinds}
    for entry in await store.outbox.read(1000):
        decoded[entry.kind].append(kinds[entry.kind].decode(entry.data))
    assert [each.tag for each in decoded[b"tag"]] == [TAG]
    assert [each.uid for rows in decoded[b"holder"] for each in rows] == [2, 3]
    assert [each.owner for each in decoded[b"group"]] == [1]
    assert sorted(each.uid for rows in decoded[b"member"] for each in rows) == [1, 2, 3]
    assert {each.mid for each in sent} <= {each.mid for each in decoded[b"message"]}
