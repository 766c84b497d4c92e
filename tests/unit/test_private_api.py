"""Tests that private parts of libraries are used in three places only, and still have the shape used there."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import aiomqtt
import pytest
from aiohttp import web
from aiohttp.web_protocol import _ErrInfo
from paho.mqtt.client import Client as PahoClient
from redis.asyncio.connection import Connection

from emqx_im_client.aiomqtt_private import disconnected, paho_of
from hooks.http.aiohttp_connection import AiohttpConnection
from hooks.http.aiohttp_private import AiohttpHandler

ROOT = Path(__file__).parents[2]
PLACES = {
    "hooks/http/aiohttp_private.py",
    "store/redis/pipelined.py",
    "clients/python/emqx_im_client/aiomqtt_private.py",
}
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def foreign(path: Path) -> list[str]:
    """Private attributes of something that is not the object itself."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and re.match(r"_[a-z]", node.attr)
        and node.attr not in OF_NAMED_TUPLES
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]


def test_private_attributes_are_used_in_few_places() -> None:
    files = [*ROOT.glob("hooks/**/*.py"), *ROOT.glob("store/**/*.py"), *ROOT.glob("clients/python/**/*.py")]
    found = {str(path.relative_to(ROOT)): used for path in files if (used := foreign(path))}
    assert found.keys() <= PLACES, found


@pytest.mark.parametrize("library", ["aiohttp", "aiomqtt", "redis"])
def test_the_minor_version_is_kept(library: str) -> None:
    major, minor, *_ = version(library).split(".")
    for file in (ROOT / "pyproject.toml", ROOT / "clients" / "python" / "pyproject.toml"):
        needed = tomllib.loads(file.read_text())["project"]["dependencies"]
        for each in needed:
            if re.match(rf"{library}\b", each) and not (library == "aiohttp" and file.parent != ROOT):
                assert re.fullmatch(rf"{library}(\[\w+\])?>={major}\.{minor},<{major}\.{int(minor) + 1}", each), each


def test_a_connection_of_aiohttp() -> None:
    used = {"_messages", "_request_count", "_reading_paused", "_waiter"}
    assert used <= {name for cls in web.RequestHandler.__mro__ for name in getattr(cls, "__slots__", ())}
    assert {"status", "exc", "message"} <= set(_ErrInfo.__annotations__)


def test_nothing_of_ours_hides_an_attribute_of_aiohttp() -> None:
    theirs = {name for cls in AiohttpHandler.__mro__[1:] for name in (*vars(cls), *getattr(cls, "__slots__", ()))}
    source = ast.parse((ROOT / "hooks/http/aiohttp_connection.py").read_text())
    ours = {
        node.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    }
    assert ours
    assert ours & theirs == set()
    # What its documentation and types offer to be overridden.
    offered = {"connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing"}
    offered |= {"handle_error", "log_access", "log_exception"}
    methods = {name for cls in (AiohttpConnection, AiohttpHandler) for name in vars(cls) if not name.startswith("__")}
    assert methods & theirs <= offered


async def test_a_client_of_aiomqtt() -> None:
    client = aiomqtt.Client("127.0.0.1")
    assert isinstance(paho_of(client), PahoClient)
    assert paho_of(client).connect_timeout > 0
    assert not disconnected(client).done()


def test_a_connection_of_redis_py() -> None:
    assert Connection()._writer is None, "until it is connected"
