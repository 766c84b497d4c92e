"""Maps the parts of `emqx-rules/` to EMQX's REST API: where each is read, and how it is written and removed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hooks.emqx.management import Management
from hooks.emqx.rules.difference import overlaid, shown
from hooks.emqx.rules.files import REPUBLISH
from hooks.emqx.rules.render import Rules
from hooks.emqx.rules.stock_acl import is_stock
from hooks.emqx.versions import versions_of

_OUR_ACL = "POST /hooks/authz"
UNLIMITED = "infinity"
_MQTT_LISTENERS = ("tcp", "ssl", "ws", "wss", "quic")

Object = dict[str, Any]


class Resource(Protocol):
    """One thing in EMQX. wanted: the keys that we write; None if it must not exist."""

    @property
    def label(self) -> str: ...

    @property
    def wanted(self) -> Object | None: ...

    async def read(self, api: Management) -> Object | None:
        """Returns what EMQX holds; None if there is no such thing."""

    async def write(self, api: Management, held: Object | None) -> None:
        """Makes it so. held: what `read` gave."""

    def foreign(self, held: Object) -> bool:
        """Returns whether somebody else made what is there, so that writing would destroy it."""


@dataclass(frozen=True)
class Item:
    """A connector, an action or a rule: ours by its name. It is posted once and put after."""

    label: str
    collection: str
    id: str
    wanted: Object | None
    named: Object = field(default_factory=dict)

    async def read(self, api: Management) -> Object | None:
        held: Object | None = await api.get(f"{self.collection}/{self.id}")
        return held

    async def write(self, api: Management, held: Object | None) -> None:
        if self.wanted is None:
            await self.remove(api)
        elif held is None:
            await api.post(self.collection, {**self.named, **self.wanted})
        else:
            await api.put(f"{self.collection}/{self.id}", self.wanted)

    async def remove(self, api: Management) -> None:
        await api.delete(f"{self.collection}/{self.id}")

    def foreign(self, held: Object) -> bool:
        return False


@dataclass(frozen=True)
class Authenticator:
    """The JWT authenticator: EMQX has at most one."""

    wanted: Object
    label: str = "authentication jwt"

    async def read(self, api: Management) -> Object | None:
        held: Object | None = await api.get("/authentication/jwt")
        return held

    async def write(self, api: Management, held: Object | None) -> None:
        if held is None:
            await api.post("/authentication", self.wanted)
        else:
            await api.put("/authentication/jwt", self.wanted)

    def foreign(self, held: Object) -> bool:
        return bool(held.get("verify_claims")) and "sub" not in str(held["verify_claims"])


@dataclass(frozen=True)
class AuthorizationSource:
    """An authorization source: EMQX has one of each type."""

    wanted: Object

    @property
    def label(self) -> str:
        return f"authorization source {self.wanted['type']}"

    async def read(self, api: Management) -> Object | None:
        held: Object | None = await api.get(f"/authorization/sources/{self.wanted['type']}")
        return held

    async def write(self, api: Management, held: Object | None) -> None:
        if held is None:
            await api.post("/authorization/sources", self.wanted)
        else:
            await api.put(f"/authorization/sources/{self.wanted['type']}", self.wanted)

    async def remove(self, api: Management) -> None:
        await api.delete(f"/authorization/sources/{self.wanted['type']}")

    def foreign(self, held: Object) -> bool:
        if self.wanted["type"] == "http":
            return not str(held.get("url")).endswith("/hooks/authz")
        return not self.ours(held) and not is_stock(str(held.get("rules", "")))

    def ours(self, held: Object) -> bool:
        if self.wanted["type"] == "http":
            return not self.foreign(held)
        return _OUR_ACL in str(held.get("rules"))


@dataclass(frozen=True)
class SourceOrder:
    """The file decides before the service is asked."""

    types: Sequence[str]
    label: str = "authorization sources"

    @property
    def wanted(self) -> Object:
        return {"order": list(self.types)}

    async def read(self, api: Management) -> Object | None:
        return {"order": [name for name in await self._all(api) if name in self.types]}

    async def write(self, api: Management, held: Object | None) -> None:
        """Moves our sources together to where the first of them was; the others keep their order."""
        names = await self._all(api)
        first = min(names.index(name) for name in self.types)
        others = [name for name in names if name not in self.types]
        before = [name for name in names[:first] if name in others]
        order = [*before, *self.types, *others[len(before) :]]
        await api.put("/authorization/sources/order", [{"type": name} for name in order])

    def foreign(self, held: Object) -> bool:
        return False

    async def _all(self, api: Management) -> list[str]:
        answer = await api.get("/authorization/sources")
        return [source["type"] for source in answer["sources"]] if answer else []


@dataclass(frozen=True)
class Setting:
    """Settings of the whole broker, read and put as a whole; what we do not name stays as it is."""

    label: str
    path: str
    wanted: Object

    async def read(self, api: Management) -> Object | None:
        held: Object | None = await api.get(self.path)
        return held

    async def write(self, api: Management, held: Object | None) -> None:
        await api.put(self.path, overlaid(shown(held or {}), self.wanted))

    def foreign(self, held: Object) -> bool:
        return False


@dataclass(frozen=True)
class ListenerRates(Setting):
    """The rates of a listener of clients. EMQX shows those that somebody has set; any other is `infinity`."""

    async def read(self, api: Management) -> Object | None:
        held = await super().read(api)
        return None if held is None else {**dict.fromkeys(self.wanted, UNLIMITED), **held}


def webhook_items(rules: Rules) -> list[Item]:
    """Returns connector, action and rules, in the order in which they can be created."""
    return [
        *(
            Item(f"{kind} {name}", f"/{kind}s", f"http:{name}", wanted, {"type": "http", "name": name})
            for kind, items in (("connector", rules.connectors), ("action", rules.actions))
            for name, wanted in items.items()
        ),
        *(
            Item(f"rule {rule_id}", "/rules", rule_id, wanted, {"id": rule_id})
            for rule_id, wanted in rules.rule_bodies().items()
        ),
    ]


def sources(rules: Rules) -> list[AuthorizationSource]:
    """Returns the sources in the order in which they are asked."""
    return [AuthorizationSource(source) for source in rules.authorization["sources"]]


async def stale_rules(api: Management, rules: Rules) -> list[Item]:
    """Returns our rules whose file no longer exists, or does not belong to the configured way of sending."""
    wanted = rules.rule_bodies()
    ours = {f"http:{name}" for name in rules.actions} | {REPUBLISH}
    return [
        Item(f"rule {rule['id']}", "/rules", rule["id"], None)
        for rule in await all_rules(api)
        if rule["id"].startswith(f"{rules.parameters.name}_")
        and rule["id"] not in wanted
        and {_named(action) for action in rule["actions"]} <= ours
    ]


async def trusted_sending(api: Management, rules: Rules) -> bool:
    """Returns whether a rule of ours delivers what users send, so that nobody else may."""
    return any(
        rule["id"].startswith(f"{rules.parameters.name}_")
        and rule.get("enable", True)
        and REPUBLISH in map(_named, rule["actions"])
        for rule in await all_rules(api)
    )


def way(*, trusted: bool) -> str:
    """Returns how users send, in words."""
    return "to `send/…`, delivered by the broker (trusted)" if trusted else "to the receiver's topic themselves"


def _named(action: str | Object) -> str:
    """Returns an action of a rule: that of a connector by its id, one of EMQX's own by its function."""
    return action if isinstance(action, str) else str(action.get("function"))


async def all_rules(api: Management) -> list[Object]:
    answer = await api.get("/rules?limit=1000")
    return list(answer["data"]) if answer else []


async def manageable(api: Management) -> bool:
    """Returns whether this is an EMQX; the broker of `emqx-im dev` runs the rules by itself, and has no settings."""
    return await api.get("/listeners") is not None


async def plan(api: Management, rules: Rules, *, only_rules: bool) -> list[Resource]:
    """Returns everything, in an order that leaves the broker working wherever it stops.

    The service is reached and asked before the file rules lose their last line, and nothing is refused for want of an
    answer before both sources are there.
    """
    steps: list[Resource] = [*webhook_items(rules), *await stale_rules(api, rules)]
    if only_rules:
        return steps
    file, http = sources(rules)
    settings = {key: value for key, value in rules.authorization.items() if key != "sources"}
    steps += [Authenticator(wanted) for wanted in rules.authentication]
    steps += [http, file, SourceOrder(("file", "http"))]
    steps += [
        Setting("authorization settings", "/authorization/settings", settings),
        Setting("mqtt settings", "/configs/global_zone", {"mqtt": rules.broker["mqtt"]}),
        Setting("retainer", "/mqtt/retainer", rules.broker["retainer"]),
        Setting("delayed publish", "/mqtt/delayed", rules.broker["delayed"]),
    ]
    versions = versions_of(await api.get("/nodes") or ())
    # While a cluster is upgraded, every node must know what is set, and what slows senders on one may lose messages on
    # another.
    if special := rules.for_version(versions[0]).get("authorization"):
        cache = special["node_cache"]
        steps.append(Setting("authorization node cache", "/authorization/node_cache", cache))
    rates = rules.for_version(versions[-1])["listeners"]
    steps += [
        ListenerRates(f"listener {listener['id']}", f"/listeners/{listener['id']}", rates)
        for listener in await client_listeners(api)
    ]
    return steps


async def client_listeners(api: Management) -> list[Object]:
    """Returns the listeners of clients that are switched on."""
    return [
        listener
        for listener in await api.get("/listeners") or ()
        if listener["type"] in _MQTT_LISTENERS and listener.get("enable", True)
    ]
