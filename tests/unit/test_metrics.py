"""Tests what the service counts, and how the counts of several workers come together."""

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from hooks.metrics import PREFIX, Metrics
from hooks.metrics.hot_channels import HotCounts
from store.timelines.hot_channels import CacheStats


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_pulls_that_wait_are_counted_up_and_down(metrics: Metrics) -> None:
    metrics.waiting_pulls.inc()
    metrics.waiting_pulls.inc()
    metrics.waiting_pulls.dec()
    assert f"{PREFIX}_waiting_pulls 1.0" in metrics.exposition().decode()


def test_every_metric_starts_with_the_prefix(metrics: Metrics) -> None:
    families = list(metrics.registry.collect())
    assert families
    assert all(family.name.startswith(f"{PREFIX}_") for family in families)


def test_two_services_in_one_process_count_apart(metrics: Metrics) -> None:
    metrics.archived.inc(3)
    assert f"{PREFIX}_archived_total 0.0" in Metrics().exposition().decode()


@pytest.mark.parametrize("workers", [False, True])
def test_hot_channels_are_named_while_they_are_hot(
    metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: bool
) -> None:
    if workers:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    counts = HotCounts(metrics)
    update, of_another_shard = counts.of_shard(), counts.of_shard()
    sample = f'{PREFIX}_hot_channel_hits{{channel="global"}}'
    update(CacheStats(7, 2, 1, {"global": 60.0}))
    assert f"{sample} 60.0" in metrics.exposition().decode()
    of_another_shard(CacheStats(0, 0, 0, {"global": 51.5}))
    assert f"{sample} 111.5" in metrics.exposition().decode()
    update(CacheStats(1, 0, 0, {}))
    of_another_shard(CacheStats(0, 0, 0, {}))
    assert sample not in metrics.exposition().decode()
    written = generate_latest(metrics.registry).decode()
    assert f"{PREFIX}_hot_channels 0.0" in written
    assert f"{PREFIX}_hot_hits_total 8.0" in written
    assert f'{PREFIX}_hot_misses_total{{reason="cold"}} 2.0' in written
    assert f'{PREFIX}_hot_misses_total{{reason="older"}} 1.0' in written
