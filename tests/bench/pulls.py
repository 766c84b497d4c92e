"""Pulls over HTTP: requests for wrk, and a client that takes the time of each."""

import json
import socket
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import orjson

from tests.bench.service import JWT_SECRET


@cache
def token(uid: int) -> str:
    return jwt.encode({"sub": str(uid), "exp": int(time.time()) + 86400}, JWT_SECRET, "HS256")


def request(uid: int, cursor: int, limit: int = 200) -> bytes:
    return (
        f"GET /pull?last_id={cursor}&limit={limit} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {token(uid)}\r\n\r\n"
    ).encode()


def wrk_script(directory: Path, requests: Iterable[bytes]) -> Path:
    """Returns a wrk script that sends these one after the other, again and again."""
    lines = ",\n".join(json.dumps(request.decode()) for request in requests)
    script = directory / "get.lua"
    script.write_text(f"local requests = {{\n{lines}\n}}\n" + (Path(__file__).parent / "get.lua").read_text())
    return script


class Client:
    """One connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(4 * 1024 * 1024)

    def pull(self, uid: int, cursor: int, limit: int = 200) -> tuple[dict[str, Any], float]:
        """Returns the answer, and the milliseconds it took. Raises RuntimeError for another status than 200."""
        sent, length, view = request(uid, cursor, limit), 0, memoryview(self._buffer)
        started = time.perf_counter()
        self._socket.sendall(sent)
        while True:
            length += self._socket.recv_into(view[length:])
            end = self._buffer.find(b"\r\n\r\n", 0, length)
            if end < 0:
                continue
            head = bytes(view[:end]).lower()
            if length == end + 4 + int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
                break
        took = (time.perf_counter() - started) * 1000
        body = bytes(view[end + 4 : length])
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{head!r}: {body[:200]!r}")
        return orjson.loads(body), took

    def close(self) -> None:
        self._socket.close()
