"""Serves `/admin/tags`: operators create tags, decide who holds them, and read them."""

from collections.abc import AsyncIterator
from typing import Any

from aiohttp import StreamReader, web

from hooks.api.arguments import MAX_PAGE, PAGE, added_and_removed, answer, fields, integer, page
from hooks.errors import Problem
from hooks.messaging.command_fields import uid
from hooks.messaging.tag_changes import TagChanges
from store.addresses import tag_named
from store.operations.listing import Listing
from store.tags.holdings import MANUAL, PROFILE, Holdings, TagInfo

MAX_TITLE = 255
MAX_USERS = 10_000
"""Users in one list; more have to come as a file, or as a whole set."""
MAX_WRONG = 100
"""Wrong lines that a preview names."""
_MAX_LINE = 100
_READ_BYTES = 65536


class TagsApi:
    def __init__(self, holdings: Holdings, listing: Listing, changes: TagChanges) -> None:
        self._holdings = holdings
        self._listing = listing
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/tags", self.page),
            web.get("/admin/tags/{tag}", self.show),
            web.put("/admin/tags/{tag}", self.put),
            web.delete("/admin/tags/{tag}", self.delete),
            web.get("/admin/tags/{tag}/users", self.users),
            web.post("/admin/tags/{tag}/users", self.change_users),
            web.post("/admin/tags/{tag}/preview", self.preview),
            web.put("/admin/tags/{tag}/users", self.replace_users),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """Returns a page of tags, in the order of their names."""
        limit = integer(request, "limit", PAGE, 1, MAX_PAGE)
        tags = await self._holdings.page(request.query.get("after", ""), limit)
        return answer({"tags": [_shown(tag) for tag in tags]})

    async def show(self, request: web.Request) -> web.Response:
        return answer(_shown(await self._found(_named(request))))

    async def put(self, request: web.Request) -> web.Response:
        tag = request.match_info["tag"]
        if not _is_tag(tag):
            raise Problem("bad_argument", "a tag is 1 to 64 of A-Z a-z 0-9 _ . -")
        given = await fields(request)
        title, followable = given.get("title", ""), given.get("followable", False)
        if type(title) is not str or len(title) > MAX_TITLE:
            raise Problem("bad_argument", f"`title` is not a string of at most {MAX_TITLE} characters")
        if type(followable) is not bool:
            raise Problem("bad_argument", "`followable` is neither true nor false")
        await self._changes.put(tag, title=title, followable=followable)
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        tag = _named(request)
        await self._found(tag)
        await self._changes.delete(tag)
        return web.Response(status=204)

    async def change_users(self, request: web.Request) -> web.Response:
        """Returns how many the source gave the tag to, and took it from."""
        tag = _named(request)
        given = await fields(request)
        source = given.get("source", MANUAL)
        if source not in (MANUAL, PROFILE):
            raise Problem("bad_argument", "`source` is neither manual nor profile")
        add, remove = added_and_removed(given, MAX_USERS)
        await self._found(tag)
        added, removed = await self._changes.change(tag, source, add, remove)
        return answer({"added": added, "removed": removed})

    async def replace_users(self, request: web.Request) -> web.Response:
        """Replaces the whole set, one uid on each line: all of it takes effect at once, or nothing if a line is
        malformed.
        """
        tag = _named(request)
        if request.query.getall("source", []) != [PROFILE]:
            raise Problem("bad_argument", "`source` is not profile: only the holders by profile are replaced")
        await self._found(tag)
        async with self._changes.replacement(tag) as new:
            async for uids in _uids(request.content):
                await new.add(uids)
            await new.take_effect()
        return web.Response(status=204)

    async def users(self, request: web.Request) -> web.Response:
        """Returns a page of the tag's holders, in the order of their uids, with the sources that say so."""
        tag = _named(request)
        after, limit = page(request)
        await self._found(tag)
        held = await self._listing.holders(tag, after, limit)
        return answer({"users": [{"uid": str(each.uid), "sources": each.sources} for each in held]})

    async def preview(self, request: web.Request) -> web.Response:
        """Returns what is wrong in a list of users, line by line, and changes nothing."""
        await self._found(_named(request))
        users, count = 0, 0
        wrong: list[dict[str, Any]] = []
        async for number, line in _lines(request.content):
            try:
                _uid(line, number)
                users += 1
            except Problem as problem:
                count += 1
                if len(wrong) < MAX_WRONG:
                    wrong.append({"line": number, "message": problem.message})
        return answer({"users": users, "wrong": count, "first_wrong": wrong})

    async def _found(self, tag: str) -> TagInfo:
        info = await self._holdings.info(tag)
        if info is None:
            raise Problem("not_found", f"there is no tag {tag}")
        return info


async def _uids(content: StreamReader) -> AsyncIterator[list[int]]:
    """Yields the users of a body, some at a time. Raises Problem `bad_argument`, naming the line."""
    uids: list[int] = []
    async for number, line in _lines(content):
        uids.append(_uid(line, number))
        if len(uids) == MAX_USERS:
            yield uids
            uids = []
    yield uids


async def _lines(content: StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Yields the lines of a body that are not empty, with their numbers; one that is far too long, cut, is the last."""
    number, rest = 0, b""
    async for part in content.iter_chunked(_READ_BYTES):
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
        if len(rest) > _MAX_LINE:
            break
    if rest.strip():
        yield number + 1, rest[: _MAX_LINE + 1]


def _uid(line: bytes, number: int) -> int:
    try:
        return uid(line.strip().decode("ascii", "backslashreplace"), f"line {number}")
    except ValueError as error:
        raise Problem("bad_argument", str(error)) from None


def _is_tag(name: str) -> bool:
    return tag_named(name) is not None


def _named(request: web.Request) -> str:
    tag = request.match_info["tag"]
    if not _is_tag(tag):
        raise Problem("not_found", "there is no such tag")
    return tag


def _shown(tag: TagInfo) -> dict[str, Any]:
    return tag._asdict()
