"""`/hooks/group`: what users ask of groups."""

from hooks import body as fields
from hooks.body import Body, moment, text, username
from hooks.commands import Commands, GroupCommand
from hooks.commands import read as read_command
from hooks.emqx.acknowledge import Acknowledgements
from hooks.errors import Refused
from hooks.payload import parse
from hooks.payload import read as read_payload
from hooks.topics import Command, Group, command, number
from store.errors import GroupRefused


class GroupHook:
    def __init__(self, commands: Commands, acknowledgements: Acknowledgements, *, most_payload: int) -> None:
        self._commands = commands
        self._acknowledgements = acknowledgements
        self._most_payload = most_payload

    async def __call__(self, body: Body) -> None:
        """Raises BadBody, Refused, StoreError."""
        topic, broker_id = text(body, "topic"), text(body, "id")
        moment(body, "publish_received_at")
        user, qos = username(body), fields.qos(body)
        if qos == 0 or user is None:
            return
        raw = fields.payload(body)
        payload = read_payload(raw, user, broker_id, self._most_payload)
        actor = number(user)
        if actor is None:
            raise Refused("not_a_user", payload.client_id)
        match command(topic):
            case Command(Group(gid), name):
                asked = _read(name, raw, payload.client_id)
            case _:
                raise Refused("unknown_topic", payload.client_id)
        try:
            changed = await self._commands.run(gid, actor, asked, payload.client_id)
        except GroupRefused as refusal:
            raise Refused(refusal.code, payload.client_id) from None
        if payload.ack:
            self._acknowledgements.stored(user, payload.client_id, changed.id)


def _read(name: str, raw: bytes, ref: str) -> GroupCommand:
    """Raises Refused."""
    asked = parse(raw)
    if asked is None or asked.get("id") is None:
        raise Refused("bad_command", ref, "a command is a JSON object with an `id`")
    try:
        return read_command(name, asked)
    except ValueError as error:
        raise Refused("bad_command", ref, str(error)) from None
