"""Turns the counts of hot channels into metrics, of which the store knows nothing."""

from collections.abc import Callable, Mapping

from hooks.metrics import Metrics
from store.timelines.hot_channels import CacheStats


class HotCounts:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._rates: list[Mapping[str, float]] = []
        self._hits = metrics.hot_hits
        self._cold, self._older = (metrics.hot_misses.labels(reason) for reason in ("cold", "older"))

    def of_shard(self) -> Callable[[CacheStats], None]:
        """Returns what takes the figures of one more shard; a channel may be hot in several."""
        shard = len(self._rates)
        self._rates.append({})

        def update(stats: CacheStats) -> None:
            self._hits.inc(stats.hits)
            self._cold.inc(stats.cold)
            self._older.inc(stats.older)
            self._rates[shard] = stats.rates
            rates: dict[str, float] = {}
            for each in self._rates:
                for channel, rate in each.items():
                    rates[channel] = rates.get(channel, 0.0) + rate
            self._metrics.hot_channels.set(len(rates))
            self._metrics.hot_channel_hits.rates = rates

        return update
