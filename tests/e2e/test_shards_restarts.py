"""The stack on three shards is stopped, killed and started again, on one server and on a real cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.redis.shards import shard_among
from tests.cluster import TestCluster
from tests.e2e import test_restarts
from tests.e2e.conftest import running
from tests.e2e.shards import SHARDS, ClusterStack
from tests.e2e.stack import Stack
from tests.servers import program

"""A cluster is started, and the service three times more."""

RECEIVER = 9193


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    with TestCluster(tmp_path_factory.mktemp("cluster"), program("redis-server")).started() as cluster:
        yield cluster


@pytest.fixture(params=["server", "cluster"])
def own_stack(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    assert shard_among(RECEIVER, SHARDS) != shard_among(test_restarts.SENDER, SHARDS)
    monkeypatch.setattr(test_restarts, "RECEIVER", RECEIVER)
    if request.param == "server":
        yield from running(Stack(tmp_path, IM_SHARDS=str(SHARDS)))
        return
    cluster: TestCluster = request.getfixturevalue("cluster")
    cluster.mend()
    yield from running(ClusterStack(tmp_path, cluster))


test_kill_9_of_the_whole_tree_loses_nothing_that_was_answered = (
    test_restarts.test_kill_9_of_the_whole_tree_loses_nothing_that_was_answered
)
test_the_client_library_loses_and_repeats_nothing_through_kills = (
    test_restarts.test_the_client_library_loses_and_repeats_nothing_through_kills
)
test_everything_is_there_after_a_restart = test_restarts.test_everything_is_there_after_a_restart
