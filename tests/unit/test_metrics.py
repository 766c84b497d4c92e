"""What the service counts, and how the counts of several workers come together."""

import pytest

from hooks.metrics import PREFIX, Metrics


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
