"""How the shards are and what happens to them, as metrics: the store knows nothing of them."""

from hooks.metrics import Metrics
from store.operations.shard_states import ShardStates
from store.timelines.gates import GateOutcome


class ShardCounts:
    def __init__(self, metrics: Metrics, shards: int) -> None:
        self._metrics = metrics
        if shards > 1:
            # From 0 on, or the first of each could not be seen to be counted.
            for shard in range(shards):
                for outcome in GateOutcome:
                    metrics.shard_gates.labels(shard, outcome)
                if shard:
                    metrics.link_gaps.labels(shard)

    def gap(self, shard: int) -> None:
        self._metrics.link_gaps.labels(shard).inc()

    def gate(self, shard: int, outcome: GateOutcome) -> None:
        self._metrics.shard_gates.labels(shard, outcome).inc()


class ShardFigures:
    def __init__(self, states: ShardStates, metrics: Metrics) -> None:
        self._states = states
        self._metrics = metrics

    async def update(self) -> None:
        """Reads the figures. Those that a shard does not tell stay as they were. Raises StoreAway."""
        self._metrics.link_bytes.set(await self._states.link_bytes())
        for state in await self._states.look():
            shard = str(state.shard)
            self._metrics.shard_up.labels(shard).set(not state.away)
            self._metrics.shard_away.labels(shard).set(not state.waited_for)
            self._metrics.link_entries.labels(shard).set(state.entries)
            self._metrics.link_age.labels(shard).set(state.waits)
            if state.behind is not None:
                self._metrics.shard_lag.labels(shard).set(state.behind)
