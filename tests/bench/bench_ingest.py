"""Webhook ingest over loopback HTTP, AOF always, as a ratio to an aiohttp no-op of the same route in the same run.

`alone`: what a 204 promises, the message in Redis with its outbox entry; nobody empties the outbox meanwhile.
`archived`: the same process also carries everything into SQLite, on the same cores.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from redis import Redis

from store import keys
from tests.bench.service import process, service, wrk, wrk_script
from tests.servers import RedisServer, free_port, program

CONNECTIONS = (16, 64, 256)
SECONDS = 3.0
ROUNDS = 5


def main() -> None:
    """Prints a line per number of connections; the three are taken in turn, so that a drift hits all of them."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        script = wrk_script(directory)
        alone, archived = (RedisServer(directory / name, program("redis-server")) for name in ("alone", "archived"))
        for redis in (alone, archived):
            redis.start()
        Redis.from_url(alone.url).set(keys.EPOCH, "bench")
        away = f"mysql://root@127.0.0.1:{free_port()}/away"
        noop_port = free_port()
        noop = [sys.executable, "-m", "tests.bench.noop", str(noop_port)]
        with (
            process(noop, noop_port),
            service(directory, alone, IM_ARCHIVE_URL=away) as alone_port,
            service(directory, archived) as archived_port,
        ):
            ports = (noop_port, alone_port, archived_port)
            for port in ports:
                wrk(script, port, 64, 1)
            print("connections  no-op/s  alone/s  ratio              p99 ms  archived/s  ratio              p99 ms")
            for connections in CONNECTIONS:
                rounds = [[wrk(script, port, connections, SECONDS) for port in ports] for _ in range(ROUNDS)]
                print(f"{connections:11d} {_median([idle for (idle, _), *_ in rounds]):8.0f}", end="")
                for place in (1, 2):
                    ratios = [measured[place][0] / measured[0][0] for measured in rounds]
                    print(
                        f" {_median([measured[place][0] for measured in rounds]):8.0f}"
                        f"  {_median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
                        f" {_median([measured[place][1] for measured in rounds]):11.1f}",
                        end="   ",
                    )
                print(flush=True)
        for redis in (alone, archived):
            redis.stop()


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    main()
