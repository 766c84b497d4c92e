"""Brings `emqx-rules/` into a running EMQX through its REST API, and removes them again."""

from collections.abc import Callable, Sequence

from hooks.emqx.management import Management
from hooks.emqx.rest import BrokerAway, BrokerRefused
from hooks.emqx.rules.check import ResourceFinding, look
from hooks.emqx.rules.render import Rules
from hooks.emqx.rules.resources import AuthorizationSource, Item, all_rules, sources, stale_rules, webhook_items

Told = Callable[[str], None]


class Unfinished(Exception):
    """EMQX accepted only a part; the message says what was done and what was not."""


async def write(api: Management, findings: Sequence[ResourceFinding], tell: Told) -> list[ResourceFinding]:
    """Writes what differs, one after the other; returns what EMQX accepted but did not change. Raises Unfinished."""
    pending = [finding for finding in findings if finding.differences]
    for number, finding in enumerate(pending):
        try:
            await finding.resource.write(api, finding.held)
        except (BrokerAway, BrokerRefused) as error:
            labels = [each.resource.label for each in pending]
            done = ", ".join(labels[:number]) or "nothing"
            missing = ", ".join(labels[number:])
            raise Unfinished(f"{labels[number]}: {error}\nwritten: {done}\nnot written: {missing}") from error
        tell(finding.resource.label)
    looked = [await look(api, finding.resource) for finding in pending]
    return [finding for finding in looked if finding.differences]


async def users_of_ours(api: Management, rules: Rules) -> list[str]:
    """Finds rules of others that use an action of ours, which therefore cannot be removed."""
    ours = {item.id for item in [*webhook_items(rules), *await stale_rules(api, rules)]}
    actions = {f"http:{name}" for name in rules.actions}
    return [
        rule["id"]
        for rule in await all_rules(api)
        if rule["id"] not in ours and actions & set(map(str, rule["actions"]))
    ]


async def ours_there(api: Management, rules: Rules, *, only_rules: bool) -> list[Item | AuthorizationSource]:
    """Returns what `remove` takes away, in its order: rules, actions, connectors, sources."""
    items = [*await stale_rules(api, rules), *reversed(webhook_items(rules))]
    there: list[Item | AuthorizationSource] = [item for item in items if await item.read(api) is not None]
    if not only_rules:
        for source in reversed(sources(rules)):
            held = await source.read(api)
            if held is not None and source.ours(held):
                there.append(source)
    return there


async def remove(api: Management, there: Sequence[Item | AuthorizationSource], tell: Told) -> None:
    """Removes what `ours_there` found. Raises BrokerAway, BrokerRefused: then run it again."""
    for resource in there:
        await resource.remove(api)
        tell(resource.label)
