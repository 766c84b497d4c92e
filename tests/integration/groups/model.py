"""A model of groups in plain Python: who may do what, what comes of it, and who sees which message.

Written from the rules that users know, and from nothing else.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from store.groups.groups import Limits


class _Refused(Exception):
    """With the code of the refusal."""


@dataclass
class Group:
    """members: by when they joined; those of one moment by their uid's text. admins: the longest-standing first.

    muted: users who are muted, members or not; all_muted: whether all are but owner and admins.
    """

    owner: int
    mode: str
    open: bool
    members: dict[int, tuple[int, str]] = field(default_factory=dict)
    kicked: set[int] = field(default_factory=set)
    dismissed: bool = False
    name: str = ""
    notice: str = ""
    admins: list[int] = field(default_factory=list)
    muted: set[int] = field(default_factory=set)
    all_muted: bool = False

    def mutes(self, uid: int) -> bool:
        return uid != self.owner and (uid in self.muted or (self.all_muted and uid not in self.admins))


@dataclass
class Told:
    """Holds who is told by a control message: users, and everybody who sees the group's messages."""

    users: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)


class Model:
    """seen: what each user may see, in order: place in the order and the message's id."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.groups: dict[int, Group] = {}
        self.seen: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
        self._commands = 0
        self._made: defaultdict[int, int] = defaultdict(int)

    def lose_counts(self) -> None:
        """Forgets what was done in a day: it is not archived."""
        self._made.clear()

    def show(self, users: Iterable[int], place: int, client_id: str) -> None:
        for uid in set(users):
            insort(self.seen[uid], (place, client_id))

    def audience(self, gid: int, sender: int) -> list[int] | str:
        """Returns who sees what a user sends to the group, or the code of the refusal."""
        try:
            group = self._of(gid, sender)
        except _Refused as refusal:
            return str(refusal)
        return "muted" if group.mutes(sender) else list(group.members)

    def command(self, kind: str, gid: int, actor: int, arguments: Mapping[str, object]) -> Told | str:
        """Whom it tells; or the code of the refusal."""
        self._commands += 1
        try:
            told = getattr(self, f"_{kind}")(gid, actor, **arguments)
        except _Refused as refusal:
            return str(refusal)
        assert isinstance(told, Told)
        return told

    def replace(self, verb: str, gid: int, sender: int, actor: int, recalled: bool) -> list[int] | str:
        """Returns who is told that a message of the group was recalled or edited, or the code of the refusal."""
        group = self.groups[gid]
        if actor != sender and (verb == "edit" or group.dismissed or actor not in (group.owner, *group.admins)):
            return "not_the_sender"
        if recalled:
            return "recalled" if verb == "edit" else []
        if verb == "edit" and group.dismissed:
            return "unknown_group"
        if verb == "edit" and actor not in group.members:
            return "not_a_member"
        if verb == "edit" and group.mutes(actor):
            return "muted"
        return list(group.members)

    def _living(self, gid: int) -> Group:
        group = self.groups.get(gid)
        if group is None or group.dismissed:
            raise _Refused("unknown_group")
        return group

    def _of(self, gid: int, actor: int, *, owner: bool = False, admin: bool = False) -> Group:
        """The group in which the actor may do it. admin: whether admins may, too."""
        group = self._living(gid)
        if actor not in group.members:
            raise _Refused("not_a_member")
        if owner and actor != group.owner and not (admin and actor in group.admins):
            raise _Refused("not_the_owner")
        return group

    def _concerned(self, group: Group, members: Iterable[int]) -> list[int]:
        concerned = list(dict.fromkeys(members))
        if not set(concerned) <= group.members.keys():
            raise _Refused("not_a_member")
        return concerned

    def _outranks(self, group: Group, actor: int, members: Iterable[int]) -> None:
        if actor != group.owner and {group.owner, *group.admins} & set(members):
            raise _Refused("not_the_owner")

    def _groups(self, uid: int) -> int:
        return sum(uid in group.members for group in self.groups.values())

    def _reads(self, uid: int) -> int:
        return sum(uid in group.members and group.mode == "read" for group in self.groups.values())

    def _check_limits(self, size: int, mode: str, readers: Iterable[int], joining: Iterable[int]) -> None:
        if size > (self.limits.write if mode == "write" else self.limits.read):
            raise _Refused("group_limit")
        if mode == "read" and any(self._reads(uid) >= self.limits.user for uid in readers):
            raise _Refused("user_limit")
        if any(self._groups(uid) >= self.limits.groups for uid in joining):
            raise _Refused("user_limit")

    def _add(self, group: Group, users: Iterable[int]) -> None:
        for uid in users:
            group.members[uid] = (self._commands, str(uid))
            group.kicked.discard(uid)

    def _remove(self, group: Group, users: Iterable[int]) -> list[int]:
        """Those who stay and are told."""
        for uid in users:
            del group.members[uid]
            if uid in group.admins:
                group.admins.remove(uid)
        if not group.members:
            group.dismissed = True
        elif group.owner not in group.members:
            if group.admins:
                group.owner = group.admins.pop(0)
            else:
                group.owner = min(group.members, key=group.members.__getitem__)
        return list(group.members)

    def _create(self, gid: int, actor: int, members: list[int], mode: str, open: bool) -> Told:  # noqa: A002
        if gid in self.groups:
            raise _Refused("gid_taken")
        joining = list(dict.fromkeys([actor, *members]))
        self._check_limits(len(joining), mode, joining, joining)
        if self._made[actor] >= self.limits.made:
            raise _Refused("groups_per_day")
        self._made[actor] += 1
        self.groups[gid] = Group(actor, mode, open)
        self._add(self.groups[gid], joining)
        return Told(joining)

    def _invite(self, gid: int, actor: int, members: list[int]) -> Told:
        group = self._of(gid, actor)
        joining = [uid for uid in dict.fromkeys(members) if uid not in group.members]
        if not joining:
            return Told()
        self._check_limits(len(group.members) + len(joining), group.mode, joining, joining)
        self._add(group, joining)
        return Told(joining, list(group.members))

    def _join(self, gid: int, actor: int) -> Told:
        group = self._living(gid)
        if actor in group.members:
            return Told()
        if not group.open:
            raise _Refused("not_open")
        if actor in group.kicked:
            raise _Refused("kicked")
        self._check_limits(len(group.members) + 1, group.mode, [actor], [actor])
        self._add(group, [actor])
        return Told([], list(group.members))

    def _leave(self, gid: int, actor: int) -> Told:
        group = self._of(gid, actor)
        return Told([actor], self._remove(group, [actor]))

    def _kick(self, gid: int, actor: int, members: list[int]) -> Told:
        leaving = list(dict.fromkeys(members))
        if actor in leaving:
            raise _Refused("bad_command")
        group = self._of(gid, actor, owner=True, admin=True)
        self._outranks(group, actor, self._concerned(group, leaving))
        group.kicked.update(leaving)
        return Told(leaving, self._remove(group, leaving))

    def _dismiss(self, gid: int, actor: int) -> Told:
        group = self._of(gid, actor, owner=True)
        told = Told([], list(group.members))
        group.dismissed = True
        group.members.clear()
        return told

    def _change_mode(self, gid: int, actor: int, mode: str) -> Told:
        group = self._of(gid, actor, owner=True)
        if mode == group.mode:
            return Told()
        self._check_limits(len(group.members), mode, group.members, [])
        group.mode = mode
        return Told([], list(group.members))

    def _update(self, gid: int, actor: int, **fields: str | bool | None) -> Told:
        given = {name: value for name, value in fields.items() if value is not None}
        if not given:
            raise _Refused("bad_command")
        group = self._of(gid, actor, owner=True, admin=True)
        if all(getattr(group, name) == value for name, value in given.items()):
            return Told()
        for name, value in given.items():
            setattr(group, name, value)
        return Told([], list(group.members))

    def _transfer(self, gid: int, actor: int, to: int) -> Told:
        group = self._of(gid, actor, owner=True)
        self._concerned(group, [to])
        if to == group.owner:
            return Told()
        if to in group.admins:
            group.admins.remove(to)
        group.admins.append(group.owner)
        group.owner = to
        return Told([], list(group.members))

    def _admin(self, gid: int, actor: int, members: list[int], on: bool) -> Told:
        group = self._of(gid, actor, owner=True)
        concerned = self._concerned(group, members)
        if group.owner in concerned:
            raise _Refused("bad_command")
        changed = [uid for uid in concerned if (uid in group.admins) != on]
        if on:
            group.admins += changed
        else:
            group.admins = [uid for uid in group.admins if uid not in changed]
        return Told([], list(group.members)) if changed else Told()

    def _mute(self, gid: int, actor: int, members: list[int] | None, seconds: int) -> Told:
        group = self._of(gid, actor, owner=True, admin=True)
        if members is None:
            changed = bool(seconds) or group.all_muted
            group.all_muted = bool(seconds)
            return Told([], list(group.members)) if changed else Told()
        concerned = self._concerned(group, members)
        self._outranks(group, actor, concerned)
        if seconds and group.owner in concerned:
            raise _Refused("bad_command")
        if not seconds and not group.muted & set(concerned):
            return Told()
        if seconds:
            group.muted.update(concerned)
        else:
            group.muted.difference_update(concerned)
        return Told([], list(group.members))
