"""Reads commands to groups from payloads, has the store carry them out, and reports them live to those concerned.

Users send them over MQTT, operators over `/admin`; from here on both are treated alike.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from hooks.messaging import moderation
from hooks.messaging.command_fields import flag, mode, somebody, text, uids
from hooks.messaging.group_notices import GroupControlMessages
from hooks.messaging.member_cache import MemberCache
from hooks.messaging.moderation import MODERATION, Admin, ModerationCommand, Mute, Transfer, Update
from hooks.messaging.outgoing import Outgoing
from store.addresses import Group
from store.errors import ChannelRefused
from store.groups.context import CommandContext
from store.groups.groups import WRITE, Changed, Groups
from store.groups.moderation import MAX_NAME, Moderators


class Create(NamedTuple):
    """owner: whom an operator names; None for the user who creates it."""

    members: tuple[int, ...]
    name: str
    mode: str
    open: bool
    owner: int | None = None


class Invite(NamedTuple):
    members: tuple[int, ...]


class Join(NamedTuple):
    pass


class Leave(NamedTuple):
    """all_of_owner: whether they leave every group that has the same owner."""

    all_of_owner: bool = False


class Kick(NamedTuple):
    members: tuple[int, ...]


class Dismiss(NamedTuple):
    pass


class Mode(NamedTuple):
    mode: str


GroupCommand = Create | Invite | Join | Leave | Kick | Dismiss | Mode | ModerationCommand


class Commands:
    """Carries out commands, publishes their notices, and remembers who is a member now."""

    def __init__(
        self,
        groups: Groups,
        moderators: Moderators,
        outgoing: Outgoing,
        member_cache: MemberCache,
        *,
        secret: str,
    ) -> None:
        self._groups = groups
        self._moderators = moderators
        self._outgoing = outgoing
        self._member_cache = member_cache
        self._notices = GroupControlMessages(secret)

    async def run(
        self, gid: int, actor: int, command: GroupCommand, command_id: str, received_at: int | None = None
    ) -> Changed:
        """Carries out a command of a user, or of OPERATOR. received_at: by the broker; None if no budget applies.

        Raises ChannelRefused, SenderOverBudget, StoreError.
        """
        if isinstance(command, Leave) and command.all_of_owner:
            await self._leave_others(gid, actor, command_id, received_at)
        changed = await self._run(gid, actor, command, command_id, received_at)
        if not changed.repeated:
            self._remember(gid, actor, command)
        for topic, payload in changed.told.items():
            self._outgoing.publish(topic, payload)
        return changed

    async def _leave_others(self, gid: int, actor: int, command_id: str, received_at: int | None) -> None:
        """Leaves the other groups. The named group comes last, so a repeated command continues where it ended."""
        for other in await self._groups.of_same_owner(gid, actor, command_id):
            with suppress(ChannelRefused):  # left, or dismissed, meanwhile
                await self.run(other, actor, Leave(), command_id, received_at)

    async def _run(
        self, gid: int, actor: int, command: GroupCommand, command_id: str, received_at: int | None
    ) -> Changed:
        context = CommandContext(gid, actor, command_id, self._notices, received_at)
        match command:
            case Create():
                return await self._groups.create(context, **command._asdict())
            case Invite(members):
                return await self._groups.invite(context, members=members)
            case Join():
                return await self._groups.join(context)
            case Leave():
                return await self._groups.leave(context)
            case Kick(members):
                return await self._groups.kick(context, members=members)
            case Dismiss():
                return await self._groups.dismiss(context)
            case Mode(mode):
                return await self._groups.change_mode(context, mode=mode)
            case Update():
                return await self._moderators.update(context, **command._asdict())
            case Transfer(to):
                return await self._moderators.transfer(context, to=to)
            case Admin():
                return await self._moderators.admin(context, **command._asdict())
            case Mute():
                return await self._moderators.mute(context, **command._asdict())

    def _remember(self, gid: int, actor: int, command: GroupCommand) -> None:
        group = Group(gid)
        match command:
            case Create(members=members, owner=owner):
                self._member_cache.members(group, [owner or actor, *members])
            case Invite(members):
                self._member_cache.members(group, members)
            case Join():
                self._member_cache.members(group, [actor])
            case Leave():
                self._member_cache.strangers(group, [actor])
            case Kick(members):
                self._member_cache.strangers(group, members)
            case Dismiss():
                self._member_cache.gone(group)


def read(name: str, fields: Mapping[str, Any]) -> GroupCommand:
    """Returns the command `name`, of those of groups, with the fields of its payload.

    Raises ValueError with what is wrong.
    """
    match name:
        case "create":
            return Create(
                uids(fields, "members"),
                text(fields, "name", MAX_NAME) or "",
                mode(fields, WRITE),
                flag(fields, "open") or False,
            )
        case "invite":
            return Invite(somebody(fields))
        case "join":
            return Join()
        case "leave":
            return Leave(flag(fields, "all_of_owner") or False)
        case "kick":
            return Kick(somebody(fields))
        case "dismiss":
            return Dismiss()
        case "mode":
            return Mode(mode(fields, None))
    if name in MODERATION:
        return moderation.read(name, fields)
    raise ValueError(f"there is no command {name}")
