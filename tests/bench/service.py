"""Starts the real `emqx-im serve` and its Redis for a benchmark, and drives it with wrk."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

from tests.servers import RedisServer, die_with_parent, free_port, program

HOOK_TOKEN = "bench-hook-token"
PAYLOAD = b' {"id": "%s", "type": "text", "body": {"text": "a line of text as people send it, not long, not short"}}'


@contextlib.contextmanager
def process(arguments: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[int]:
    """Runs a server until its port answers HTTP, and ends it with the block; gives its process id."""
    running = subprocess.Popen(
        arguments, env={**os.environ, **(environment or {})}, preexec_fn=die_with_parent, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                if running.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{arguments} did not start") from None
                time.sleep(0.05)
        yield running.pid
    finally:
        running.terminate()
        running.wait()


@contextlib.contextmanager
def service(directory: Path, redis: RedisServer, **settings: str) -> Iterator[int]:
    """`emqx-im serve` on an archive in `directory`; gives its port."""
    port = free_port()
    environment = {
        "IM_HTTP_PORT": str(port),
        "IM_REDIS_URL": redis.url,
        "IM_ARCHIVE_URL": f"sqlite:///{directory / 'archive.db'}",
        "IM_HOOK_TOKEN": HOOK_TOKEN,
        "IM_ADMIN_TOKEN": "bench-admin-token",
        "IM_JWT_SECRET": "bench-jwt-secret-bench-jwt-secret",
        "IM_SECRET": "bench-secret",
        "IM_LOG_LEVEL": "error",
        **settings,
    }
    with process([sys.executable, "-m", "hooks.cli", "serve"], port, environment):
        yield port


def wrk_script(directory: Path) -> Path:
    """A wrk script of hook bodies as EMQX sends them: 1,000 senders and receivers, and no id twice."""
    head, tail = b64encode(PAYLOAD % (b"0" * 21)).decode().split(b64encode(b"0" * 21).decode())
    body = {
        "hook": "message",
        "event": "message.publish",
        "node": "emqx@127.0.0.1",
        "timestamp": 1795438818826,
        "rest": False,
        "qos": 1,
        "publish_received_at": 1795438818826,
    }
    script = directory / "post.lua"
    script.write_text(
        f"""
local counter, thread = 0, 0
function setup(t) thread = thread + 1; t:set("number", thread) end
function init() math.randomseed(os.time() + number) ; salt = math.random(1000000) end
local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {HOOK_TOKEN}"
local fixed = {json.dumps(json.dumps(body)[1:])}
function request()
  counter = counter + 1
  local id = string.format("%07d%07d", salt, counter)
  -- 28 base64 digits that stand for 21 characters: ASCII digits, three at a time
  local text = id .. id:sub(8)
  local encoded = {{}}
  for i = 1, 21, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + b * 256 + c
    for shift = 18, 0, -6 do
      local d = math.floor(n / 2 ^ shift) % 64 + 1
      encoded[#encoded + 1] = digits:sub(d, d)
    end
  end
  local sender, receiver = 1000 + counter % 1000, 1000 + (counter * 7 + 1) % 1000
  return wrk.format(nil, nil, nil, string.format(
    '{{"id":"%s","clientid":"%d-phone","username":"%d","topic":"single/%d","payload_b64":"{head}%s{tail}",%s',
    text, sender, sender, receiver, table.concat(encoded), fixed))
end
function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(99)))
end
"""
    )
    return script


def wrk(script: Path, port: int, connections: int, seconds: float) -> tuple[float, float]:
    """Requests per second and the 99th percentile in milliseconds. Raises if a request failed."""
    url = f"http://127.0.0.1:{port}/hooks/message"
    output = subprocess.run(
        [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", str(script), url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+)", output)
    assert found, output
    requests, duration, errors, percentile = map(int, found.groups())
    if errors:
        raise RuntimeError(f"{errors} requests failed: {output}")
    return requests / duration * 1e6, percentile / 1000
