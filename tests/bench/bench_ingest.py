"""Webhook ingest over loopback HTTP, AOF always, as a ratio to an aiohttp no-op of the same route in the same run."""

import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.service import process, service, wrk, wrk_script
from tests.servers import RedisServer, free_port, program

CONNECTIONS = (16, 64, 256)


def main(seconds: float = 4.0, rounds: int = 5) -> None:
    """Prints a line per number of connections; the pairs are taken in turn, so that a drift hits both."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        redis = RedisServer(directory / "redis", program("redis-server"))
        redis.start()
        script = wrk_script(directory)
        noop_port = free_port()
        noop = [sys.executable, "-m", "tests.bench.noop", str(noop_port)]
        with process(noop, noop_port), service(directory, redis) as port:
            wrk(script, port, 64, 1)
            wrk(script, noop_port, 64, 1)
            print("connections  no-op/s  ingest/s  ratio (median, lowest-highest)  p99 ms")
            for connections in CONNECTIONS:
                pairs = []
                for _ in range(rounds):
                    idle, _ = wrk(script, noop_port, connections, seconds)
                    busy, p99 = wrk(script, port, connections, seconds)
                    pairs.append((idle, busy, busy / idle, p99))
                idles, busies, ratios, p99s = (sorted(column) for column in zip(*pairs, strict=True))
                print(
                    f"{connections:11d} {statistics.median(idles):8.0f} {statistics.median(busies):9.0f}"
                    f"  {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
                    f"                      {statistics.median(p99s):7.1f}"
                )
        redis.stop()


if __name__ == "__main__":
    main()
