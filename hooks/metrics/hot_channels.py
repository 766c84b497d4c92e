"""Turns the counts of hot channels into metrics, of which the store knows nothing."""

from hooks.metrics import Metrics
from store.timelines.hot_channels import CacheStats


class HotCounts:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._hits = metrics.hot_hits
        self._cold, self._older = (metrics.hot_misses.labels(reason) for reason in ("cold", "older"))

    def update(self, stats: CacheStats) -> None:
        self._hits.inc(stats.hits)
        self._cold.inc(stats.cold)
        self._older.inc(stats.older)
        self._metrics.hot_channels.set(len(stats.rates))
        self._metrics.hot_channel_hits.rates = stats.rates
