"""A running EMQX against `emqx-rules/`."""

from collections.abc import Sequence
from dataclasses import dataclass

from hooks.emqx.difference import Difference, differences, has_secret
from hooks.emqx.management import Management
from hooks.emqx.resources import Object, Resource, plan
from hooks.emqx.rules import Rules


@dataclass(frozen=True)
class Finding:
    """One resource as it is. differences: none if it is as it should be. foreign: somebody else made it."""

    resource: Resource
    held: Object | None
    differences: Sequence[Difference]
    foreign: bool

    @property
    def lines(self) -> list[str]:
        """What differs, in words; first `+`, `~` or `-`."""
        label = self.resource.label
        if self.resource.wanted is None:
            return [f"- {label}"]
        if self.held is None:
            return [f"+ {label}"]
        return [f"~ {label}: {each.path}: {_shown(each.old)} → {_shown(each.new)}" for each in self.differences]


async def compare(api: Management, rules: Rules, *, only_rules: bool, secrets: bool = False) -> list[Finding]:
    """Everything that EMQX should hold, and what it holds. Raises BrokerAway, BrokerRefused.

    `secrets`: what holds a secret counts as different, as EMQX shows none.
    """
    return [await look(api, resource, secrets=secrets) for resource in await plan(api, rules, only_rules=only_rules)]


async def look(api: Management, resource: Resource, *, secrets: bool = False) -> Finding:
    held = await resource.read(api)
    if resource.wanted is None:
        return Finding(resource, held, [Difference("", resource.label, None)] if held else [], False)
    found = differences(resource.wanted, held or {})
    if secrets and not found and has_secret(resource.wanted):
        found = [Difference("secret", "hidden", "written again")]
    return Finding(resource, held, found, held is not None and bool(found) and resource.foreign(held))


def _shown(value: object) -> str:
    text = "nothing" if value is None else str(value).strip()
    return text if "\n" not in text and len(text) <= 80 else f"{len(text.splitlines())} lines"
