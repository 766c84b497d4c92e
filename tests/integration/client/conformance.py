"""Plays the cases of `clients/conformance/`: data that say what happens to a client and what it must make of that."""

import asyncio
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from hooks.dev.events import EventMessage
from tests.integration.client.adapters import CLIENTS, Adapter, Failed, until

CASES = Path(__file__).parents[3] / "clients" / "conformance"

QUIET = 0.4
"""Seconds without an event that count as none."""

TIMES: dict[str, Any] = {"pauses": [0.02, 0.2], "hint": 0.05, "pullAgain": 0}
"""Short pauses for tests; pulls only when something asks for them. Cases name what they need beside that."""

REPORTS = ("trouble", "loginRefused", "recovered")


def cases() -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(CASES.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text()):
            name = f"{path.stem}: {case['case']}"
            assert name not in found, name
            found[name] = case
    return found


class Programs:
    """One program for each client, for all cases that leave it alive."""

    def __init__(self) -> None:
        self._running: dict[str, Adapter] = {}

    async def play(self, client: str, prepare: Callable[[Adapter], "Play"]) -> None:
        """Plays a case. prepare: makes it of a program with no device."""

        def start() -> Adapter:
            self._running[client] = CLIENTS[client]()
            return self._running[client]

        try:
            await prepare(self._running.get(client) or start()).run(start)
            await self._running[client].ask("reset")
            self._running[client].events.clear()
        except BaseException:
            self._running.pop(client).kill()
            raise

    def close(self) -> None:
        for program in self._running.values():
            program.kill()


class Play:
    """One case. Each step is a map of one entry: a method of this class, and what it is given."""

    def __init__(self, case: dict[str, Any], service: Any, adapter: Adapter, folder: Path) -> None:
        """service: a Scripted, or what stands for it."""
        self._case = case
        self._service = service
        self._adapter = adapter
        self._folder = folder
        self._uids: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._mids: dict[str, int] = {}

    async def run(self, start: Any) -> None:
        self._start = start
        self._times = {**TIMES, **self._case.get("times", {})}
        self._service.page = self._case.get("page", 200)
        await self._adapter.ask("times", seconds=self._times)
        for number, step in enumerate(self._case["steps"], 1):
            ((verb, given),) = step.items() if isinstance(step, dict) else ((step, None),)
            try:
                await getattr(self, verb)(given)
            except AssertionError as error:
                raise AssertionError(f"step {number}, {verb} {given}: {error}") from error

    # What the service does.

    async def store(self, given: dict[str, Any]) -> None:
        """ids: of messages for `to`, in order, from somebody who is not a device of the case."""
        uid = str(given["to"])
        for client_id in given["ids"]:
            sender = str(given.get("from", 1001))
            body = {"body": given.get("body", client_id)}
            entry: dict[str, Any] = {"topic": given.get("topic", f"single/{uid}"), "from": sender, "id": client_id}
            entry["payload"] = {"id": client_id, "from": sender, "type": given.get("type", "text"), **body}
            if "payload_b64" in given:
                del entry["payload"]
            if "recalled" in given:
                del entry["payload"]
            entry |= {name: given[name] for name in ("payload_b64", "recalled", "edited") if name in given}
            if "copy_of" in given:
                entry["mid"] = self._mids[given["copy_of"]]
            self._mids[client_id] = self._service.put(uid, entry)

    async def notice(self, given: dict[str, Any]) -> None:
        """A stored `im.recalled` or `im.edited` of the message `of`; `via`: another topic than that of the message."""
        uid, topic = str(given["to"]), given.get("topic", f"single/{given['to']}")
        body = {"topic": topic, "mid": self._mids[given["of"]], **given.get("body", {})}
        client_id = f"im.{given['kind']}.{len(self._mids)}"
        payload = {"from": "0", "id": client_id, "type": f"im.{given['kind']}", "body": body}
        entry = {"topic": given.get("via", topic), "from": "0", "id": client_id, "payload": payload}
        self._mids[given.get("as", client_id)] = self._service.put(uid, entry)

    async def change(self, given: dict[str, Any]) -> None:
        """A state of a user; `live` tells it too, alone where it is `only`."""
        state = self._with_mid(given["state"])
        changed = self._service.change(str(given["uid"]), state)
        if given.get("live"):
            self._service.tell(str(given["uid"]), "im.state", changed)

    async def tell(self, given: dict[str, Any]) -> None:
        """A control message, live; `of` puts the id of a message that the client sent for `$id`."""
        body = given.get("body", {})
        if "of" in given:
            ids = [message["id"] for message in self._service.published if message.get("body") == given["of"]]
            body = {name: ids[-1] if value == "$id" else value for name, value in body.items()}
        if "head" in given:
            body = {**body, "head": self._service.head + given["head"]}
        self._service.tell(str(given["to"]), given["type"], body, given.get("key"))

    async def deliver(self, given: dict[str, Any]) -> None:
        """A live message; `store` says that a pull has it, too."""
        message = {"id": given["id"], "from": str(given.get("from", 1001)), "type": given.get("type", "text")}
        message |= {"body": given.get("body", given["id"])}
        self._service.publish(given["topic"], message, given.get("qos", 1))

    async def deliver_raw(self, given: dict[str, Any]) -> None:
        payload = given["payload"].encode()
        self._service.broker.publish(EventMessage(topic=given["topic"], payload=payload, qos=1, clientid="http_api"))

    async def service(self, given: dict[str, Any]) -> None:
        """Sets attributes of the scripted service."""
        for name, value in deepcopy(given).items():
            assert hasattr(self._service, name), f"the service has no {name}"
            setattr(self._service, name, set(value) if isinstance(getattr(self._service, name), set) else value)

    async def trouble(self, given: dict[str, Any]) -> None:
        """Answers the next pulls so, `times` of them."""
        self._service.trouble += [self._service.trouble_named(given["answer"])] * given.get("times", 1)

    async def no_trouble(self, given: None) -> None:
        self._service.trouble.clear()

    async def hold_pulls(self, given: bool) -> None:
        (self._service.pull_gate.clear if given else self._service.pull_gate.set)()

    async def broker(self, given: str) -> None:
        if given != "start":
            await self._service.stop_broker()
        if given != "stop":
            await self._service.start_broker()

    # What happens to clients.

    async def open(self, given: dict[str, Any]) -> None:
        name, uid = given.get("as", "a"), given["uid"]
        self._uids[name] = uid
        token = self._service.token
        kinds = {"good": token(uid), "none": None, "expired": token(uid, -60), "odd": "two words"}
        tokens = [kinds.get(kind) if kind in kinds else token(int(kind)) for kind in given.get("tokens", ["good"])]
        names = ("clientid", "clean", "trusted", "patience")
        options = {name: given[name] for name in names if name in given}
        path = str(self._folder / f"{given.get('state', name)}.state")
        ports = {"port": self._service.mqtt_port, "ws": self._service.ws_port}
        opened = {"device": name, "uid": uid, "url": self._service.url, **ports}
        self._adapter.events.setdefault(name, [])
        await self._adapter.ask("open", **opened, tokens=tokens, path=path, **options)

    async def close(self, given: str) -> None:
        await self._adapter.ask("close", device=given)

    async def kill(self, given: None) -> None:
        """The program that runs all devices ends, and another begins."""
        self._adapter = await self._adapter.die(self._start)
        await self._adapter.ask("times", seconds=self._times)

    async def sleep(self, given: float) -> None:
        """All timers of all devices stand still."""
        self._adapter.halt()
        try:
            await asyncio.sleep(given)
        finally:
            self._adapter.go_on()

    async def clock(self, given: float) -> None:
        await self._adapter.ask("clock", shift=given)

    async def full(self, given: dict[str, Any]) -> None:
        """The next writes of the storage fail, `writes` of any, or `sends` of those that keep a message to send."""
        count = {name: given[name] for name in ("writes", "sends") if name in given}
        await self._adapter.ask("full", device=given.get("by", "a"), **count)

    async def send(self, given: dict[str, Any]) -> None:
        """Begins to send; `sent` waits for what becomes of it."""
        arguments = [given["to"], given["body"]]
        number = self._adapter.start("call", device=given.get("by", "a"), method="send", args=arguments)
        self._sent[given.get("as", str(given["body"]))] = number

    async def call(self, given: dict[str, Any]) -> None:
        """Calls a method; a string `mid:<id>` among the arguments is the `mid` of that message."""
        values = [self._mid(value) for value in given.get("args", [])]
        number = self._adapter.start("call", device=given.get("by", "a"), method=given["method"], args=values)
        self._sent[given.get("as", given["method"])] = number

    async def group(self, given: dict[str, Any]) -> None:
        about = {"device": given.get("by", "a"), "gid": given["gid"], "method": given["method"]}
        self._sent[given.get("as", given["method"])] = self._adapter.start("group", **about, args=given.get("args", []))

    # What is expected.

    async def sent(self, given: dict[str, Any]) -> None:
        """For each: `stored`, `waiting`, an error code, or the name of an error."""
        for name, expected in given.items():
            number = self._sent[name]
            if expected == "waiting":
                await asyncio.sleep(QUIET)
                assert not self._adapter.answered(number), f"{name} is answered"
                continue
            try:
                mid = await self._adapter.answer(number)
                outcome = ["stored"]
                self._mids[name] = mid
            except Failed as failed:
                outcome = [str(failed.code), failed.error]
            assert expected in outcome, f"{name}: {outcome}"

    async def hears(self, given: dict[str, Any] | list[Any]) -> None:
        """The next messages, by their bodies or ids, whatever the device says of itself meanwhile."""
        name, expected = (given.get("by", "a"), given["messages"]) if isinstance(given, dict) else ("a", given)
        for each in expected:
            event = await self._next(name, reports=False)
            assert event["kind"] == "received", event
            assert each in (event["body"], event["id"]), f"{each!r} was expected, {event} came"
            if isinstance(given, dict) and "confirmed" in given:
                assert event["confirmed"] is given["confirmed"], event

    async def event(self, given: dict[str, Any]) -> None:
        """The next event but reports has at least these fields."""
        expected = {name: self._mid(value) for name, value in given.items() if name != "device"}
        event = await self._next(given.get("device", "a"), reports=False)
        if isinstance(expected.get("state"), dict):
            expected["state"] = self._with_mid(expected["state"])
            event["state"] = {name: event["state"].get(name) for name in expected["state"]}
        assert {name: event.get(name) for name in expected} == expected, event

    async def reports(self, given: dict[str, Any] | list[str]) -> None:
        """Waits until the device has said this of itself, in this order, whatever comes between."""
        name, expected = (given.get("by", "a"), given["reports"]) if isinstance(given, dict) else ("a", given)
        for each in expected:
            kind, _, part = each.partition(": ")
            event = await self._next(name, reports=True)
            while event["kind"] != kind or part not in event.get("reason", ""):
                event = await self._next(name, reports=True)

    async def quiet(self, given: str | None) -> None:
        """No event but reports."""
        await asyncio.sleep(QUIET)
        events = [event for event in self._adapter.events.get(given or "a", []) if event["kind"] not in REPORTS]
        assert not events, events

    async def until(self, given: dict[str, Any]) -> None:
        """Waits until the service was asked or sent at least so often."""
        for name, least in given.items():
            await until(partial(self._has, name, least), f"{least} {name}")

    async def count(self, given: dict[str, Any]) -> None:
        """How often the service was asked or sent, exactly; or `[least, most]`."""
        for name, expected in given.items():
            found = len(getattr(self._service, name))
            least, most = expected if isinstance(expected, list) else (expected, expected)
            assert least <= found <= most, f"{found} {name}"

    async def asked(self, given: dict[str, Any]) -> None:
        """How the first pulls were asked: `limit` and other arguments, in order."""
        for name, expected in given.items():
            found = [pull.get(name) for pull in self._service.pulls[: len(expected)]]
            assert found == [None if value is None else str(value) for value in expected], found

    async def never_asked(self, given: dict[str, Any]) -> None:
        for name, value in given.items():
            assert str(value) not in [pull.get(name) for pull in self._service.pulls]

    async def stored(self, given: dict[str, Any]) -> None:
        """The bodies of what is stored for each topic or user, in order."""
        for name, expected in given.items():
            entries = self._service.timelines.get(str(name), [])
            found = [entry["payload"].get("body") for entry in entries]
            assert found == expected, found

    async def commanded(self, given: list[dict[str, Any]]) -> None:
        """The commands that the service was sent, without repeats: `topic`, and fields that they have at least."""
        seen: dict[str, tuple[str, dict[str, Any]]] = {}
        for topic, command in self._service.commands:
            seen.setdefault(command["id"], (topic, command))
        found = list(seen.values())
        assert [topic for topic, _ in found] == [each["topic"] for each in given], found
        for (_, command), each in zip(found, given, strict=True):
            expected = self._with_mid({name: value for name, value in each.items() if name != "topic"})
            assert {name: command.get(name) for name in expected} == expected, command

    async def unread(self, given: dict[str, Any]) -> None:
        """The counts, at last."""
        counts = {name: count for name, count in given.items() if name != "by"}
        found: dict[str, int] = {}
        for _ in range(100):
            found = {
                name: n for name, n in (await self._adapter.ask("unread", device=given.get("by", "a"))).items() if n
            }
            if found == counts:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{found}")

    async def states(self, given: dict[str, Any] | list[dict[str, Any]]) -> None:
        """All states, without `at`."""
        name, expected = (given.get("by", "a"), given["states"]) if isinstance(given, dict) else ("a", given)
        expected = sorted((dict(sorted(self._with_mid(state).items())) for state in expected), key=str)
        found: list[Any] = []
        for _ in range(100):
            known = await self._adapter.ask("states", device=name)
            bare = [{field: value for field, value in sorted(state.items()) if field != "at"} for state in known]
            found = sorted(bare, key=str)
            if found == expected:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{found}")

    async def subscribed(self, given: dict[str, Any]) -> None:
        """Waits until the broker has this subscription of the device's user, or has it no longer."""
        for topic, expected in given.items():
            await until(partial(self._is_subscribed, topic, expected), f"{topic}: {expected}")

    def _has(self, name: str, least: int) -> bool:
        return len(getattr(self._service, name)) >= least

    def _is_subscribed(self, topic: str, expected: bool) -> bool:
        sessions = self._service.broker.sessions.values()
        return any(topic in session.subscriptions for session in sessions) is expected

    async def _next(self, name: str, *, reports: bool) -> dict[str, Any]:
        """The next event that is a report, or that is none; those before it of the other kind are passed over."""
        events = self._adapter.events.setdefault(name, [])

        def found() -> dict[str, Any] | None:
            return next((event for event in events if (event["kind"] in REPORTS) is reports), None)

        await until(found, lambda: f"an event of {name}, of which came {events}; it pulled {self._service.pulls}")
        event = found()
        assert event is not None
        events.remove(event)
        return event

    def _mid(self, value: Any) -> Any:
        if isinstance(value, str) and value.startswith("mid:"):
            return self._mids[value.removeprefix("mid:")]
        return value

    def _with_mid(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {name: self._mid(value) for name, value in fields.items()}
