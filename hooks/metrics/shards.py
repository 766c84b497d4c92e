"""How the shards are, as metrics: the store knows nothing of them."""

from hooks.metrics import Metrics
from store.operations.shard_states import ShardStates


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
            self._metrics.link_entries.labels(shard).set(state.entries)
            self._metrics.link_age.labels(shard).set(state.waits)
            if state.behind is not None:
                self._metrics.shard_lag.labels(shard).set(state.behind)
