"""The XMPP side of a benchmark: `python -m tests.bench.xmpp PORT CONNECTIONS UNDER-WAY SECONDS`, prints JSON.

Users `u0` … log in (SASL PLAIN), are present, and each sends to the next, with UNDER-WAY of their messages not received
yet. Stanzas are bytes made beforehand, and what comes is only counted, so that this is not what is measured; whether it
was, `processor` in the answer shows, its share of one core.
"""

import asyncio
import json
import sys
import time
from base64 import b64encode
from functools import partial
from typing import cast

import uvloop

from tests.bench.ejabberd import HOST, PASSWORD

TEXT = b"a line of text as people send it, not long, not short"
_STREAM = (
    f"<stream:stream to='{HOST}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
).encode()
_BIND = b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>"
_END = b"</message>"
SILENT_SECONDS = 30
"""Messages on the way are waited for as long as some of them come: a slow server is slow, and has not failed."""


class Client(asyncio.Protocol):
    """One user. `received` counts messages; each is answered by the sender's next one."""

    def __init__(self, number: int, connections: int) -> None:
        self._name = f"u{number}"
        self._head = f"<message type='chat' to='u{(number + 1) % connections}@{HOST}' id='".encode()
        self._tail = b"'><body>" + TEXT + b"</body></message>"
        self._transport: asyncio.Transport
        self._kept = b""
        self.sent = 0
        self._salt = time.time_ns()
        self.peer: Client
        self.received = 0
        self.sending = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._steps = [
            (b"</stream:features>", self._log_in),
            (b"<success", self._open),
            (b"</stream:features>", lambda: self._transport.write(_BIND)),
            (b"</iq>", lambda: self._transport.write(b"<presence/>")),
            (b"<presence", lambda: self.ready.set_result(None)),
        ]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open()

    def _open(self) -> None:
        self._transport.write(_STREAM)

    def _log_in(self) -> None:
        secret = b64encode(f"\0{self._name}\0{PASSWORD}".encode()).decode()
        self._transport.write(
            f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self._steps:
            self._kept += data
            if self._steps[0][0] in self._kept:
                self._kept = b""
                self._steps.pop(0)[1]()
            return
        data = self._kept + data
        came = data.count(_END)
        self._kept = data[-len(_END) + 1 :]
        self.received += came
        self.peer.send(came)

    def send(self, count: int) -> None:
        if self.sending and count:
            stanzas = [b"%b%d-%d%b" % (self._head, self._salt, self.sent + n, self._tail) for n in range(count)]
            self.sent += count
            self._transport.write(b"".join(stanzas))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"{self._name}: {self._kept!r}"))


async def main(port: int, connections: int, under_way: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for number in range(connections):
        _, client = await loop.create_connection(partial(Client, number, connections), "127.0.0.1", port)
        await client.ready
        clients.append(client)
    for number, client in enumerate(clients):
        client.peer = clients[number - 1]
        client.sending = True
    started, cpu = time.perf_counter(), time.process_time()
    for client in clients:
        client.send(under_way)
    await asyncio.sleep(seconds)
    received = sum(client.received for client in clients)
    took, cpu = time.perf_counter() - started, time.process_time() - cpu
    for client in clients:
        client.sending = False
    wanted = sum(client.sent for client in clients)
    came, since = 0, time.perf_counter()
    while came < wanted:
        now_came = sum(client.received for client in clients)
        if now_came > came:
            came, since = now_came, time.perf_counter()
        elif time.perf_counter() - since > SILENT_SECONDS:
            break
        await asyncio.sleep(0.01)
    print(json.dumps({"rate": received / took, "sent": wanted, "came": came, "processor": cpu / took}))


if __name__ == "__main__":
    port, connections, under_way, seconds = sys.argv[1:]
    uvloop.run(main(int(port), int(connections), int(under_way), float(seconds)))
