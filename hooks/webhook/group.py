"""Handles `/hooks/group`: users' commands to groups and tags."""

from collections.abc import Mapping
from typing import Any

from hooks.errors import OverBudget, Refused
from hooks.messaging.acknowledgements import Acknowledgements
from hooks.messaging.commands import Commands
from hooks.messaging.commands import read as read_command
from hooks.messaging.tag_changes import TagChanges
from hooks.webhook import body as fields
from hooks.webhook.body import Body, moment, text, username
from hooks.webhook.payload import MEMBER_BYTES
from hooks.webhook.payload import parse as parse_payload
from hooks.webhook.payload import read as read_payload
from store.addresses import CommandTopic, Group, Tag, number, parse
from store.errors import ChannelRefused, SenderOverBudget


class GroupHook:
    def __init__(
        self, commands: Commands, tags: TagChanges, acknowledgements: Acknowledgements, *, most_payload: int
    ) -> None:
        self._commands = commands
        self._tags = tags
        self._acknowledgements = acknowledgements
        self._most_payload = most_payload

    async def __call__(self, body: Body) -> None:
        """Raises BadBody, Refused, StoreError."""
        topic, broker_id = text(body, "topic"), text(body, "id")
        received_at = moment(body, "publish_received_at")
        user, qos = username(body), fields.qos(body)
        if qos == 0 or user is None:
            return
        raw = fields.payload(body)
        payload = read_payload(raw, user, broker_id, self._most_payload, member_bytes=MEMBER_BYTES)
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
            changed = await self._run(asked, actor, given, ref, None if fields.is_replayed(body) else received_at)
        except ChannelRefused as refusal:
            raise Refused(refusal.code, ref) from None
        except SenderOverBudget as over:
            raise OverBudget(ref, over.retry_after) from None
        except ValueError as error:
            raise Refused("bad_command", ref, str(error)) from None
        if payload.ack:
            self._acknowledgements.stored(user, ref, changed)

    async def _run(
        self, asked: CommandTopic, actor: int, given: Mapping[str, Any], command_id: str, received_at: int | None
    ) -> int:
        """Returns the id of the change. Raises Refused, ValueError, ChannelRefused, SenderOverBudget, StoreError."""
        match asked.address:
            case Group(gid):
                return (
                    await self._commands.run(gid, actor, read_command(asked.verb, given), command_id, received_at)
                ).id
            case Tag(tag):
                return (await self._tags.command(tag, actor, asked.verb, command_id, received_at)).id
        raise Refused("unknown_topic", command_id)
