"""Handles `/hooks/group`: users' commands to groups, tags and conversations."""

from collections.abc import Mapping
from typing import Any

from hooks.errors import OverBudget, Refused
from hooks.messaging.acknowledgements import Acknowledgements
from hooks.messaging.commands import Commands
from hooks.messaging.commands import read as read_command
from hooks.messaging.recalls import VERBS as RECALLS
from hooks.messaging.recalls import Recalls
from hooks.messaging.states import VERBS as STATES
from hooks.messaging.states import StateCommands
from hooks.messaging.tag_changes import TagChanges
from hooks.webhook import body as fields
from hooks.webhook.body import Body, moment, text, username
from hooks.webhook.payload import MEMBER_BYTES
from hooks.webhook.payload import parse as parse_payload
from hooks.webhook.payload import read as read_payload
from store.addresses import CommandTopic, Group, Tag, number, parse
from store.errors import ChannelRefused, SenderOverBudget

_CODES_OF_USERS = {"aggregated": "too_late"}
"""Codes that only operators are told, and what users are told in their place."""


class GroupHook:
    def __init__(
        self,
        commands: Commands,
        tags: TagChanges,
        recalls: Recalls,
        states: StateCommands,
        acknowledgements: Acknowledgements,
        *,
        max_payload: int,
    ) -> None:
        self._commands = commands
        self._tags = tags
        self._recalls = recalls
        self._states = states
        self._acknowledgements = acknowledgements
        self._max_payload = max_payload

    async def __call__(self, body: Body) -> None:
        """Raises BadBody, Refused, StoreError."""
        topic, broker_id = text(body, "topic"), text(body, "id")
        received_at = moment(body, "publish_received_at")
        user, qos = username(body), fields.qos(body)
        if qos == 0 or user is None:
            return
        raw = fields.payload(body)
        payload = read_payload(raw, user, broker_id, self._max_payload, member_bytes=MEMBER_BYTES)
        actor = number(user)
        if actor is None:
            raise Refused("not_a_user", payload.client_id)
        asked, ref = parse(topic), payload.client_id
        if not isinstance(asked, CommandTopic):
            raise Refused("unknown_topic", ref)
        given = parse_payload(raw)
        if given is None or given.get("id") is None:
            raise Refused("bad_command", ref, "a command is a JSON object with an `id`")
        try:
            changed = await self._run(asked, actor, given, ref, received_at, judged=not fields.is_replayed(body))
        except ChannelRefused as refusal:
            raise Refused(_CODES_OF_USERS.get(refusal.code, refusal.code), ref) from None
        except SenderOverBudget as over:
            raise OverBudget(ref, over.retry_after) from None
        except ValueError as error:
            raise Refused("bad_command", ref, str(error)) from None
        if payload.ack:
            self._acknowledgements.stored(user, ref, changed)

    async def _run(
        self,
        asked: CommandTopic,
        actor: int,
        given: Mapping[str, Any],
        command_id: str,
        received_at: int,
        *,
        judged: bool,
    ) -> int:
        """Returns the id of the change. judged: whether a budget judges it.

        Raises Refused, ValueError, ChannelRefused, SenderOverBudget, StoreError.
        """
        verb, charged_at = asked.verb, received_at if judged else None
        if verb in RECALLS:
            return await self._recalls.run(asked.address, verb, actor, given, command_id, received_at, judged=judged)
        if verb in STATES:
            return await self._states.run(asked.address, verb, actor, given, command_id, charged_at)
        match asked.address:
            case Group(gid):
                return (await self._commands.run(gid, actor, read_command(verb, given), command_id, charged_at)).id
            case Tag(tag):
                return (await self._tags.command(tag, actor, verb, command_id, charged_at)).id
        raise Refused("unknown_topic", command_id)
