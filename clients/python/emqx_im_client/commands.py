"""Commands for groups, conversations and tags: messages to separate topics, sent again until they are answered."""

from typing import Any


class CommandMethods:
    """Commands besides sending. Each returns once the service has carried it out, and raises as `publish` does."""

    uid: int

    async def publish(self, topic: str, fields: dict[str, Any]) -> int:
        raise NotImplementedError

    def group(self, gid: int | str) -> "Group":
        """Returns the commands of a group."""
        return Group(self, gid)

    async def recall(self, topic: str, mid: int) -> int:
        """Takes back a message of the user's own; in groups owner and admins may take back others'."""
        return await self.publish(f"{topic}/recall", {"mid": mid})

    async def edit(self, topic: str, mid: int, body: Any, *, type: str = "text") -> int:  # noqa: A002
        """Changes the content of one of the user's own messages."""
        return await self.publish(f"{topic}/edit", {"mid": mid, "type": type, "body": body})

    async def set(self, key: str, value: Any) -> int:
        """Keeps a setting of the user's for all devices; None deletes it."""
        return await self.publish(f"single/{self.uid}/set", {"key": key, "value": value})

    async def block(self, uid: int | str) -> int:
        """Refuses private messages and invitations of another user."""
        return await self.publish(f"single/{uid}/block", {})

    async def unblock(self, uid: int | str) -> int:
        return await self.publish(f"single/{uid}/unblock", {})

    async def follow(self, tag: str) -> int:
        return await self.publish(f"business/tag_{tag}/follow", {})

    async def unfollow(self, tag: str) -> int:
        return await self.publish(f"business/tag_{tag}/unfollow", {})


class Group:
    """The commands of one group. Members are uids."""

    def __init__(self, device: CommandMethods, gid: int | str) -> None:
        self._device = device
        self._topic = f"group/{gid}"

    async def create(
        self,
        members: list[int | str],
        *,
        name: str = "",
        mode: str = "write",
        open: bool = False,  # noqa: A002
    ) -> int:
        return await self._run("create", members=members, name=name, mode=mode, open=open)

    async def invite(self, members: list[int | str]) -> int:
        return await self._run("invite", members=members)

    async def join(self) -> int:
        return await self._run("join")

    async def leave(self, *, all_of_owner: bool = False) -> int:
        return await self._run("leave", all_of_owner=all_of_owner)

    async def kick(self, members: list[int | str]) -> int:
        return await self._run("kick", members=members)

    async def dismiss(self) -> int:
        return await self._run("dismiss")

    async def mode(self, mode: str) -> int:
        return await self._run("mode", mode=mode)

    async def update(self, **fields: Any) -> int:
        """Changes the group. fields: `name`, `open`, `notice`."""
        return await self._run("update", **fields)

    async def transfer(self, to: int | str) -> int:
        return await self._run("transfer", to=to)

    async def admin(self, members: list[int | str], on: bool) -> int:
        return await self._run("admin", members=members, on=on)

    async def mute(self, members: list[int | str] | str, seconds: int) -> int:
        """Mutes some members, given by their uids, or `all`. seconds: 0 ends it."""
        return await self._run("mute", members=members, seconds=seconds)

    async def _run(self, command: str, **fields: Any) -> int:
        return await self._device.publish(f"{self._topic}/{command}", fields)
