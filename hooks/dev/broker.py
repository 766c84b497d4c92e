"""Implements the broker: who is connected, who hears what, and what the rules make of it."""

import asyncio
import socket
import time
from collections.abc import Iterable
from weakref import WeakValueDictionary

from aiohttp import web

from hooks.dev import events
from hooks.dev.authorization import Authorizer
from hooks.dev.bans import BanList
from hooks.dev.connection import KILLED, MAX_QOS, Connection
from hooks.dev.events import SESSION_EXPIRY_SECONDS, Columns, EventClient, EventMessage
from hooks.dev.login import EmbeddedLogin
from hooks.dev.rules import EvaluatedRules
from hooks.dev.session import Session
from hooks.dev.topics import is_wildcard, matches
from hooks.dev.transport import TcpTransport, Transport, WebSocketTransport
from hooks.dev.webhook import WebhookCaller

_STOP_SECONDS = 10
_ROUNDS_OF_ACCEPTING = 3
"""Rounds of the event loop between accepting a connection and `_accept`."""
_TAKEN_OVER = ("takenover", "discarded")


class EmbeddedBroker:
    """MQTT 3.1.1 over TCP and WebSocket (path `/mqtt`). `sessions` has the kept ones of absent clients too.

    bytes_rate: what one connection may send, bytes per second; None for any number.
    """

    def __init__(
        self,
        rules: EvaluatedRules,
        webhook: WebhookCaller,
        login: EmbeddedLogin,
        authorizer: Authorizer,
        *,
        bytes_rate: int | None = None,
    ) -> None:
        self.login = login
        self.authorizer = authorizer
        self.faults = authorizer.faults
        self.started_at = time.monotonic()
        self.bytes_rate = bytes_rate
        self.sessions: dict[str, Session] = {}
        self.bans = BanList()
        self._rules = rules
        self._webhook = webhook
        self._exact: dict[str, dict[Session, int]] = {}
        self._wildcards: dict[str, dict[Session, int]] = {}
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._websockets: web.AppRunner | None = None

    async def start(self, mqtt: socket.socket, websocket: socket.socket) -> None:
        """Serves on two bound sockets."""
        self.started_at = time.monotonic()
        self._server = await asyncio.start_server(self._accept, sock=mqtt)
        application = web.Application()
        application.router.add_get("/mqtt", self._accept_websocket)
        self._websockets = web.AppRunner(application, access_log=None)
        await self._websockets.setup()
        await web.SockSite(self._websockets, websocket).start()

    async def stop(self) -> None:
        """Closes the listeners, then every connection, with wills and disconnect events."""
        if self._server is not None:
            await self._stop_accepting(self._server)
        serving = dict(self._connections)
        for connection in serving:
            connection.end("server_shutting_down")
        if serving:
            _, unfinished = await asyncio.wait(serving.values(), timeout=_STOP_SECONDS)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        if self._websockets is not None:
            await self._websockets.cleanup()
        for session in self.sessions.values():
            if session.expiry is not None:
                session.expiry.cancel()

    async def _stop_accepting(self, server: asyncio.Server) -> None:
        """Lets those connections come in first that were accepted: a closed server would forget them, still open."""
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(_ROUNDS_OF_ACCEPTING):
            await asyncio.sleep(0)
        server.close()

    def emit(self, columns: Columns) -> None:
        """Runs the rules on an event; their calls go behind those of the same client."""
        if self.faults.booting:
            return
        for hook, body in self._rules.calls(columns):
            self._webhook.put(columns["clientid"], hook, body)

    def publish(self, message: EventMessage) -> int:
        """Runs the rules on the message, and delivers it and what they make of it. Returns the subscriptions
        that it matched.
        """
        columns = events.published(message)
        self.emit(columns)
        for copy in self._rules.copies(columns) if not self.faults.booting else ():
            self._deliver(copy)
        return self._deliver(message)

    def _deliver(self, message: EventMessage) -> int:
        matching = list(self._exact.get(message.topic, {}).items())
        for pattern, subscribers in self._wildcards.items():
            if matches(message.topic, pattern):
                matching += subscribers.items()
        for session, granted in matching:
            session.deliver(message, granted)
        return len(matching)

    def subscribe(self, session: Session, pattern: str, qos: int) -> int:
        """Returns the QoS granted."""
        granted = min(qos, MAX_QOS)
        session.subscriptions[pattern] = granted
        self._table(pattern).setdefault(pattern, {})[session] = granted
        self.emit(events.subscribed(session.client, pattern, granted))
        return granted

    def unsubscribe(self, session: Session, pattern: str) -> None:
        if pattern in session.subscriptions:
            granted = self._remove_subscription(session, pattern)
            self.emit(events.unsubscribed(session.client, pattern, granted))

    def opening(self, clientid: str) -> asyncio.Lock:
        """Returns the lock that is held while a session is opened: logins of one clientid take turns."""
        return self._opening.setdefault(clientid, asyncio.Lock())

    async def open_session(self, client: EventClient) -> tuple[Session, bool]:
        """Returns the session, and whether it existed; first disconnects another client with this clientid."""
        session = self.sessions.get(client.clientid)
        if session is not None and session.connection is not None:
            await session.connection.step_down("discarded" if client.clean_start else "takenover")
        if session is not None:
            if not client.clean_start and self.sessions.get(client.clientid) is session:
                if session.expiry is not None:
                    session.expiry.cancel()
                session.client = client
                return session, True
            self.drop_session(session)
        session = self.sessions[client.clientid] = Session(client)
        return session, False

    def release_session(self, session: Session, reason: str) -> None:
        """Takes a session from its connection. A kept session waits for its client, as long as in EMQX."""
        session.connection = None
        if reason in _TAKEN_OVER:
            return
        if session.client.clean_start or reason in ("kicked", KILLED):
            self.drop_session(session)
        else:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(SESSION_EXPIRY_SECONDS, self.drop_session, session)

    def drop_session(self, session: Session) -> None:
        for pattern in list(session.subscriptions):
            self._remove_subscription(session, pattern)
        if session.expiry is not None:
            session.expiry.cancel()
        if self.sessions.get(session.client.clientid) is session:
            del self.sessions[session.client.clientid]

    def sessions_of(self, usernames: Iterable[str]) -> list[Session]:
        """Returns the sessions of these users, or all where none is named."""
        wanted = set(usernames)
        return [session for session in self.sessions.values() if not wanted or session.client.username in wanted]

    def _table(self, pattern: str) -> dict[str, dict[Session, int]]:
        return self._wildcards if is_wildcard(pattern) else self._exact

    def _remove_subscription(self, session: Session, pattern: str) -> int:
        table = self._table(pattern)
        del table[pattern][session]
        if not table[pattern]:
            del table[pattern]
        return session.subscriptions.pop(pattern)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serve(TcpTransport(reader, writer))

    async def _accept_websocket(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(protocols=("mqtt",), compress=False)
        await response.prepare(request)
        await self._serve(WebSocketTransport(request, response))
        return response

    def _serve(self, transport: Transport) -> asyncio.Task[None]:
        connection = Connection(self, transport)
        task = self._connections[connection] = asyncio.create_task(connection.serve())
        task.add_done_callback(lambda _: self._connections.pop(connection))
        return task
