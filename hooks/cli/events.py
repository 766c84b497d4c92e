"""Implements `emqx-im events`: looks at the events that wait for the operator's back end, and lets them go on."""

from collections.abc import Awaitable, Callable

import typer
import uvloop

from hooks.cli.failures import named_by_setting
from hooks.events.render import render
from hooks.settings import RedisSettings, load
from store.events.queues import EventQueues
from store.redis.shards import connected

app = typer.Typer(help="Events for your own back end, which wait in Redis.", no_args_is_help=True)


@app.command()
def tail(
    limit: int = typer.Option(20, min=1, max=10_000, help="How many of the newest events to show."),
) -> None:
    """Show the newest events that wait, as JSON, one a line; and how many wait, on the standard error."""
    _run(lambda queues: _tail(queues, limit))


@app.command()
def resume() -> None:
    """Deliver events again, after IM_EVENTS_URL answered 410."""
    _run(_resume)


async def _tail(queues: EventQueues, limit: int) -> None:
    counts = await queues.counts()
    events = [event for entry in await queues.newest(limit) for event in render(entry)]
    for event in events[-limit:]:
        typer.echo(event.decode())
    said = f"{counts.waiting} events wait, in {counts.bytes} bytes; the oldest for {counts.lag_seconds():.0f} s"
    dropped = sum(counts.dropped.values())
    typer.echo(f"{said}; {counts.sent} were sent, {dropped} dropped, {counts.lost} lost with Redis", err=True)


async def _resume(queues: EventQueues) -> None:
    resumed = await queues.resume()
    typer.echo("events are delivered again" if resumed else "nothing to resume: IM_EVENTS_URL has not answered 410")


def _run(work: Callable[[EventQueues], Awaitable[None]]) -> None:
    redis = load(RedisSettings)

    async def work_on_all() -> None:
        async with connected(redis.redis_url, redis.shards, timeout=30) as shards:
            await work(EventQueues(shards))

    with named_by_setting():
        uvloop.run(work_on_all())
