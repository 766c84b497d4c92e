"""Attacks others without an account, or with no more of one than a token: pulls, tokens, files.

A move returns once the limit was met, and holds what it has until the ground is left.
"""

import asyncio
import base64
import itertools
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e.attacker import PUBLISHER, text
from tests.e2e.clients import RefusedByBroker
from tests.e2e.honest import SECONDS, Ground, Pair
from tests.e2e.stack import EMQX_IM
from tests.e2e.waiting import until

PUBLIC_CONNECTIONS = 60
OPEN_PULLS = 3
REQUEST_SECONDS = 3

_ENDED = 'emqx_im_connections_ended_total{{reason="{}"}}'
_CLAIMS, _NO_ALGORITHM = b'{"sub":"1"}', b'{"alg":"none"}'
_NONSENSE = [b"[" * 100_000, b"{}", b"<html>", b"x" * 3_000_000, b'{"keys":[{"kty":"RSA"}]}', b'{"keys":' + b"9" * 5000]


class HostileProvider:
    """An identity provider that publishes nonsense in place of keys, a different kind each time."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked = 0


@contextmanager
def hostile_provider() -> Iterator[HostileProvider]:
    answers = itertools.cycle(_NONSENSE)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(next(answers))

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = HostileProvider(f"http://127.0.0.1:{server.server_port}/keys")
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield provider
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


async def pulls_and_does_not_read(ground: Ground, pair: Pair) -> None:
    """Many pulls of a long timeline, each more than kernels buffer."""
    attacker = ground.new_user()
    parts = [[text(f"p{part} {number}", "x" * 15_000) for number in range(5)] for part in range(5)]
    async with asyncio.TaskGroup() as filling:
        for part in parts:
            filling.create_task(PUBLISHER.publish(ground.stack, attacker, ground.to(f"single/{attacker}"), part))
    token = ground.stack.token(attacker)

    async def filled() -> bool | None:
        return len((await ground.pull(token))[1].get("messages", ())) == 25 or None

    await until(filled, SECONDS)
    refused = await ground.metric('emqx_im_pulls_refused_total{code="too_many_open"}')
    head = f"GET /pull?last_id=0&limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    statuses = Counter[bytes]()
    for _ in range(5 * OPEN_PULLS):
        connection = await ground.connected(head.encode())
        async with asyncio.timeout(SECONDS):
            statuses[(await asyncio.get_running_loop().sock_recv(connection, 12))[9:]] += 1
    assert statuses == {b"200": OPEN_PULLS, b"429": 4 * OPEN_PULLS}
    assert await ground.metric('emqx_im_pulls_refused_total{code="too_many_open"}') > refused
    assert await ground.metric("emqx_im_unread_bytes") > 0


async def begins_and_does_not_go_on(ground: Ground, pair: Pair) -> None:
    """Heads without an end, as many as there may be connections, and more."""
    reasons = [_ENDED.format(reason) for reason in ("head_late", "request_late", "full")]
    before = sum([await ground.metric(reason) for reason in reasons])
    begun = 2 * PUBLIC_CONNECTIONS
    for _ in range(begun):
        await ground.connected(b"GET /pull HTTP/1.1\r\nX: " + b"x" * 20_000)

    async def all_ended() -> bool | None:
        return sum([await ground.metric(reason) for reason in reasons]) - before >= begun or None

    await until(all_ended, SECONDS)


async def connects_and_says_nothing(ground: Ground, pair: Pair) -> None:
    before = await ground.metric(_ENDED.format("full"))
    for _ in range(3 * PUBLIC_CONNECTIONS):
        await ground.connected()
    await ground.counts(_ENDED.format("full"), before + 2 * PUBLIC_CONNECTIONS)
    assert await ground.metric("emqx_im_public_connections") <= PUBLIC_CONNECTIONS


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def bad_tokens(ground: Ground, uid: int) -> list[str]:
    """None of them is anybody's, also where the secret signed it: its claims are nonsense then."""
    secret = ground.stack.secrets.jwt_secret
    claims = {"sub": str(uid), "exp": int(time.time()) + 600}
    good = jwt.encode(claims, secret, "HS256")
    head, body, signature = good.split(".")
    odd = [b"[" * 5_000, b"{}", b"null", b'{"sub":"%d","exp":"soon"}' % uid, b'{"sub":"%d","exp":NaN}' % uid]
    return [
        "x",
        "..",
        good[:-4],
        f"{head}.{_encoded(_CLAIMS)}.{signature}",
        f"{_encoded(_NO_ALGORITHM)}.{body}.",
        _encoded(b"[" * 9_000) + f".{body}.{signature}",
        jwt.encode(claims, "another secret that is long enough for it", "HS256"),
        jwt.encode({**claims, "exp": 1}, secret, "HS256"),
        jwt.encode({**claims, "nbf": 4_000_000_000}, secret, "HS256"),
        *(jwt.api_jws.encode(payload, secret, "HS256") for payload in odd),
        jwt.encode({"sub": str(uid)} | {"x": "y" * 15_000}, "a secret of somebody who has a lot to say", "HS256"),
    ]


async def logs_in_with_anything(ground: Ground, pair: Pair) -> None:
    """Tokens that are not good: neither the broker nor the pull takes one."""
    for token in bad_tokens(ground, pair.ann):
        status, answer = await ground.pull(token)
        # Where it could be a provider's, and there are no keys, nobody can say yet.
        assert (status, answer["error"]["code"]) in ((401, "unauthorized"), (503, "failed")), token[:80]
        with pytest.raises(RefusedByBroker):
            await PUBLISHER.publish(ground.stack, pair.ann, pair.topic, [text("forged")], password=token)
    assert len(await ground.service.sessions(pair.ann)) == 1, "nobody took the place of the honest device"


async def has_the_provider_asked(ground: Ground, pair: Pair) -> None:
    """Tokens of a key that nobody knows, while the identity provider publishes nonsense."""
    key = ec.generate_private_key(ec.SECP256R1())
    failed = await ground.metric('emqx_im_jwks_fetches_total{outcome="failed"}')
    assert failed > 0
    for number in range(50):
        claims = {"sub": str(pair.ann), "exp": int(time.time()) + 600}
        token = jwt.encode(claims, key, "ES256", headers={"kid": f"k{number}"})
        status, answer = await ground.pull(token)
        assert (status, answer["error"]["code"]) == (503, "failed")
        if number % 10 == 0:
            with pytest.raises(RefusedByBroker):
                await PUBLISHER.publish(ground.stack, pair.ann, pair.topic, [text("forged")], password=token)
    # With pauses that grow, and not for each token.
    assert await ground.metric('emqx_im_jwks_fetches_total{outcome="failed"}') < failed + 25


def _export(ground: Ground, file: Path) -> subprocess.CompletedProcess[bytes]:
    secrets = ground.stack.secrets
    settings = {
        "IM_HOOK_URL": ground.stack.url,
        "IM_HOOK_TOKEN": secrets.hook_token,
        "IM_JWT_SECRET": secrets.jwt_secret,
    }
    command = [EMQX_IM, "rules", "export", "-o", str(file)]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **settings})


async def plants_links(ground: Ground, pair: Pair) -> None:
    """In a directory that others write to, where an operator exports the rules with their secrets."""
    with TemporaryDirectory() as directory:
        os.chmod(directory, 0o1777)
        target, link = Path(directory, "target"), Path(directory, "rules.tar.gz")
        os.symlink(target, link)
        refused = await asyncio.to_thread(_export, ground, link)
        assert (refused.returncode, b"is a link" in refused.stderr) == (1, True), refused
        assert os.listdir(directory) == [link.name]
        os.unlink(link)
        exported = await asyncio.to_thread(_export, ground, link)
        assert exported.returncode == 0, exported
        assert os.stat(link).st_mode & 0o077 == 0
