"""The network between all of them: each link is cut, slow, silent, forgotten, or breaks in the middle of answers."""

import asyncio

from tests.chaos.deployment import LINKS
from tests.chaos.faults import Play, fault
from tests.chaos.scene import Scene


def _of_link(link: str, where: str) -> None:
    """Adds the faults of one link."""

    async def hold(scene: Scene, mode: str, seconds: float, delay: float = 0.0) -> None:
        network = scene.deployment.network
        await network.order(link, mode, delay)
        try:
            await asyncio.sleep(seconds)
        finally:
            await network.order(link, "pass")

    async def cut(scene: Scene) -> None:
        await hold(scene, "cut", scene.dice.uniform(0.1, 4))

    async def delayed(scene: Scene) -> None:
        await hold(scene, "delay", scene.dice.uniform(2, 5), scene.dice.choice((0.05, 0.3, 1.0)))

    async def silent(scene: Scene) -> None:
        await hold(scene, "stall", scene.dice.uniform(1, 8))

    async def half_open(scene: Scene) -> None:
        await scene.deployment.network.order(link, "forget")

    async def broken(scene: Scene) -> None:
        await hold(scene, "break", scene.dice.uniform(1, 4))

    plays: list[tuple[str, str, Play, bool]] = [
        ("cut", "Connections end by RST, and new ones are refused, for up to four seconds.", cut, False),
        ("slow", "Everything arrives 50 ms to a second later, for some seconds.", delayed, True),
        ("silent", "Nothing arrives for up to eight seconds, and then everything does.", silent, True),
        ("half-open", "The connections that there are carry nothing more, and nobody is told.", half_open, True),
        ("broken answers", "Connections end by RST in the middle of answers, for some seconds.", broken, False),
    ]
    for kind, what, play, holds in plays:
        play.__doc__ = what
        fault(f"network, {where}: {kind}", holds_answers=holds, single=link == "redis")(play)


for _link, _where in LINKS.items():
    _of_link(_link, _where)


@fault("network, broker to service: 503 to everything")
async def storm(scene: Scene) -> None:
    """Something between broker and service, such as a load balancer, answers 503 to every call for some seconds."""
    await scene.deployment.network.order("hooks", "storm")
    try:
        await asyncio.sleep(scene.dice.uniform(1, 6))
    finally:
        await scene.deployment.network.order("hooks", "pass")
