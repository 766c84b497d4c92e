"""Compares a running EMQX with `emqx-rules/`."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff

from hooks.emqx.management import Management
from hooks.emqx.rules.difference import Difference, differences, has_secret
from hooks.emqx.rules.render import Rules
from hooks.emqx.rules.resources import Object, Resource, plan


@dataclass(frozen=True)
class ResourceFinding:
    """One resource as EMQX has it. differences: none if it is correct. foreign: somebody else made it."""

    resource: Resource
    held: Object | None
    differences: Sequence[Difference]
    foreign: bool

    @property
    def lines(self) -> list[str]:
        """Returns what differs: first `+`, `~` or `-`; texts of several lines as a diff below it, four spaces in."""
        label = self.resource.label
        if self.resource.wanted is None:
            return [f"- {label}"]
        if self.held is None:
            return [f"+ {label}"]
        return [line for each in self.differences for line in _lines(f"~ {label}: {each.path}", each)]


async def compare(api: Management, rules: Rules, *, only_rules: bool, secrets: bool = False) -> list[ResourceFinding]:
    """Returns everything that EMQX should hold, and what it holds. Raises BrokerAway, BrokerRefused.

    `secrets`: what holds a secret counts as different, as EMQX shows none.
    """
    return [await look(api, resource, secrets=secrets) for resource in await plan(api, rules, only_rules=only_rules)]


async def look(api: Management, resource: Resource, *, secrets: bool = False) -> ResourceFinding:
    held = await resource.read(api)
    if resource.wanted is None:
        return ResourceFinding(resource, held, [Difference("", resource.label, None)] if held else [], False)
    found = differences(resource.wanted, held or {})
    if secrets and not found and has_secret(resource.wanted):
        found = [Difference("secret", "hidden", "written again")]
    return ResourceFinding(resource, held, found, held is not None and bool(found) and resource.foreign(held))


def _lines(head: str, difference: Difference) -> list[str]:
    old, new = _text(difference.old), _text(difference.new)
    if "\n" not in old + new:
        return [f"{head}: {old} → {new}"]
    changes = list(unified_diff(old.splitlines(), new.splitlines(), n=1, lineterm=""))[2:]
    return [f"{head}:", *(f"    {line}" for line in changes)]


def _text(value: object) -> str:
    return "nothing" if value is None else str(value).lower() if isinstance(value, bool) else str(value).strip()
