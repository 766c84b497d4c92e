"""The faults of a campaign: one function for each, in a module for each thing that is broken.

A fault returns once everything works again as far as it is concerned. Its docstring is its line on the page. To add
one, decorate a function of a new or an old module of this folder with `@fault`: all modules are imported, and the
campaign plays first what was played least.
"""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.deployment import ON_CLUSTERS, Deployment
from tests.chaos.scene import Scene

Play = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """loses: the store's disk is lost, so what is not archived may be gone. holds_answers: an answer may come long
    after it was true, so that it cannot be told from outside which ones were given before a loss. kind: the
    deployments it can be played on; None: all. single: not on a cluster. disks: it needs disks that can be filled.
    noisy: it makes the service meet what it cannot foresee, so its log may tell of it.
    """

    name: str
    play: Play
    loses: bool = False
    holds_answers: bool = False
    kind: str | None = None
    single: bool = False
    disks: bool = False
    noisy: bool = False

    @property
    def what(self) -> str:
        return " ".join((self.play.__doc__ or "").split())

    @property
    def thing(self) -> str:
        """What it breaks, as its name begins."""
        return self.name.partition(":")[0]

    @property
    def by_itself(self) -> bool:
        """Whether a round has it alone, or with one other: after it, less can be told from outside."""
        return self.loses or self.noisy

    @property
    def replaces_masters(self) -> bool:
        """Whether a replica may take over from its master meanwhile."""
        return self.kind in ON_CLUSTERS

    def possible_on(self, deployment: Deployment) -> bool:
        if self.single and deployment.kind in ON_CLUSTERS:
            return False
        return self.kind in (None, deployment.kind) and (deployment.disks or not self.disks)

    def goes_with(self, other: "Fault") -> bool:
        """Whether both can be played at the same time: not on the same thing, as each waits for it to be as it was."""
        if self.thing == other.thing:
            return False
        return not ((self.loses and (other.loses or other.holds_answers)) or (other.loses and self.holds_answers))


_FAULTS: dict[str, Fault] = {}


def fault(
    name: str,
    *,
    loses: bool = False,
    holds_answers: bool = False,
    kind: str | None = None,
    single: bool = False,
    disks: bool = False,
    noisy: bool = False,
) -> Callable[[Play], Play]:
    def added(play: Play) -> Play:
        assert name not in _FAULTS, name
        _FAULTS[name] = Fault(name, play, loses, holds_answers, kind, single, disks, noisy)
        return play

    return added


def faults() -> dict[str, Fault]:
    """Returns all there are, by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_FAULTS.items()))
