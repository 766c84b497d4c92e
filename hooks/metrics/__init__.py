"""Prometheus metrics. Children used on hot paths are bound once."""

import os
from collections.abc import Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

PREFIX = "emqx_im"

disable_created_metrics()  # type: ignore[no-untyped-call]

if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # Workers do not fork: who they are is asked for once, not, by a system call, for each thing that is counted.
    _PID = os.getpid()
    values.ValueClass = values.MultiProcessValue(lambda: _PID)  # type: ignore[no-untyped-call]


class HotChannelHits(Collector):
    """A gauge whose labels come and go, which the files that workers share cannot forget: it is that of one worker."""

    name = f"{PREFIX}_hot_channel_hits"
    meaning = "Pulls per second that find new messages in a hot channel, in the answering worker."
    labels = ("channel",)

    def __init__(self) -> None:
        self.rates: Mapping[str, float] = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        for channel, rate in self.rates.items():
            family.add_metric([channel], rate)
        yield family


class Metrics:
    """One set per service process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, meaning, labels, namespace=PREFIX, registry=self.registry)

        def gauge(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Gauge:
            """Makes a gauge of the whole service, which any worker may set."""
            return Gauge(
                name, meaning, labels, namespace=PREFIX, registry=self.registry, multiprocess_mode="mostrecent"
            )

        def gauge_of_worker(name: str, meaning: str) -> Gauge:
            """Makes a gauge of one worker; it is summed over the workers that are alive."""
            return Gauge(name, meaning, namespace=PREFIX, registry=self.registry, multiprocess_mode="livesum")

        def histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, meaning, namespace=PREFIX, registry=self.registry, buckets=buckets)

        seconds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
        self.hook_requests = counter("hook_requests_total", "Webhook requests by path and status.", ("path", "status"))
        self.hook_seconds = histogram("hook_seconds", "Time to answer a webhook request.", seconds)
        self.batch_size = histogram(
            "batch_size", "Messages written by one call to Redis.", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        )
        self.states_changed = counter(
            "states_changed_total", "Read marks, settings and blocks that changed, by kind.", ("kind",)
        )
        self.pull_seconds = histogram("pull_seconds", "Time to answer a pull that does not wait.", seconds)
        self.hot_channels = gauge_of_worker("hot_channels", "Hot channels, summed over the workers.")
        self.hot_channel_hits = HotChannelHits()
        self.registry.register(self.hot_channel_hits)
        self.hot_hits = counter(
            "hot_hits_total", "Channels with new messages that pulls read from the process's cache."
        )
        self.hot_misses = counter(
            "hot_misses_total", "Channels with new messages that pulls read from Redis, by reason.", ("reason",)
        )
        self.dead_letters = counter("dead_letters_total", "Dead letters by reason.", ("reason",))
        self.over_budget = counter("over_budget_total", "Messages and commands of senders who were over their budget.")
        self.archived = counter("archived_total", "Messages and changes archived.")
        self.archive_failures = counter(
            "archive_failures_total", "Archive batches that failed, by reason.", ("reason",)
        )
        self.broker_requests = counter("broker_requests_total", "Requests to EMQX's REST API by outcome.", ("outcome",))
        self.control_messages_dropped = counter(
            "control_messages_dropped_total", "Control messages that were given up, by reason.", ("reason",)
        )
        self.deliveries_dropped = counter(
            "broker_deliveries_dropped_total", "Deliveries that EMQX dropped, by reason.", ("reason",)
        )
        self.syncs = counter("syncs_total", "Users told to pull (`im.sync`), by reason.", ("reason",))
        self.permission_changes = counter(
            "permission_changes_total", "Attempts to bring changes of membership to EMQX, by outcome.", ("outcome",)
        )
        self.undecided_questions = counter(
            "undecided_questions_total", "Questions about permissions that got no answer, as EMQX counts them."
        )
        self.caches_dropped = counter(
            "permission_caches_dropped_total",
            "Requests to EMQX to drop all cached permissions, by outcome.",
            ("outcome",),
        )
        self.denied_publishes = counter(
            "denied_publishes_total",
            "Publishes that the broker denied, by the reported code, or `untold`.",
            ("code",),
        )
        self.device_caches_dropped = counter(
            "device_caches_dropped_total",
            "Requests to EMQX to drop the cached permissions of one device, by outcome.",
            ("outcome",),
        )
        self.permissions_waiting = gauge_of_worker(
            "permissions_waiting", "Changes of membership that were read and not brought to EMQX yet."
        )
        self.sessions_ended = counter(
            "sessions_ended_total", "Sessions that the service ended in EMQX, by reason.", ("reason",)
        )
        self.presence_drift = counter(
            "presence_drift_total", "Devices that a comparison added (missing) or removed (stale).", ("kind",)
        )
        self.reconciles = counter(
            "reconciles_total", "Comparisons of presence with EMQX's list of clients, by outcome.", ("outcome",)
        )
        self.dispatches = counter(
            "dispatches_total", "Connected devices whose subscriptions were corrected, by outcome.", ("outcome",)
        )
        self.outbox_length = gauge("outbox_length", "Entries waiting for the archive.")
        self.outbox_bytes = gauge("outbox_bytes", "Bytes waiting for the archive.")
        self.archive_lag = gauge("archive_lag_seconds", "Age of the oldest entry waiting for the archive.")
        self.events_sent = counter("events_sent_total", "Events that the operator's back end has taken.", ("type",))
        self.events_failed = counter(
            "events_failed_total",
            "Batches of events that the operator's back end did not take, by reason.",
            ("reason",),
        )
        self.events_waiting = gauge("events_waiting", "Events waiting for the operator's back end.")
        self.events_bytes = gauge("events_bytes", "Bytes of events waiting for the operator's back end.")
        self.events_lag = gauge("events_lag_seconds", "Age of the oldest event waiting for the operator's back end.")
        self.events_stopped = gauge(
            "events_stopped", "1 while no events are delivered because the operator's back end answered 410."
        )
        self.events_lost = gauge(
            "events_lost",
            "Events that were lost since Redis was started empty, by reason: `full` (too much waited), `redis`.",
            ("reason",),
        )
        self.redis_up = gauge(
            "redis_up", "1 while Redis answers; otherwise the gauges that are read from it keep their last value."
        )
        self.redis_memory = gauge("redis_memory_bytes", "Memory of Redis that counts towards `maxmemory`.")
        self.redis_maxmemory = gauge("redis_maxmemory_bytes", "Redis's `maxmemory`; 0 means no limit.")
        self.store_full = gauge("store_full", "1 while nothing is written because Redis has no room left.")
        self.shard_up = gauge(
            "shard_up",
            "1 while a shard beside the home answers; otherwise its gauges keep their last value.",
            ("shard",),
        )
        self.shard_away = gauge(
            "shard_away",
            "1 while messages do not wait for a shard, because it has not answered for ten seconds.",
            ("shard",),
        )
        self.shard_gates = counter(
            "shard_gates_total",
            "Times a shard was let in after its server was started again or replaced, by outcome.",
            ("shard", "outcome"),
        )
        self.shard_lag = gauge("shard_lag_seconds", "Seconds that pulls of a shard's users lag behind.", ("shard",))
        self.link_entries = gauge(
            "link_entries", "Entries on the link to a shard, with those applied in the last minute.", ("shard",)
        )
        self.link_age = gauge(
            "link_age_seconds", "Age of the oldest entry on the link to a shard that is not applied.", ("shard",)
        )
        self.link_gaps = counter(
            "link_gaps_total",
            "Times a shard was given entries of its link before it had those that precede them.",
            ("shard",),
        )
        self.link_bytes = gauge("link_bytes", "Bytes on all links, which count towards `IM_OUTBOX_LIMIT`.")
        self.online_users = gauge("online_users", "Users with a device online.")
        self.online_devices = gauge("online_devices", "Devices online.")
        self.connections_ended = counter(
            "connections_ended_total",
            "Connections that were ended by the service, not by their client, by reason.",
            ("reason",),
        )
        self.unread_bytes = gauge_of_worker("unread_bytes", "Bytes of answers that clients have not read yet.")
        self.public_connections = gauge_of_worker("public_connections", "Connections on `IM_PUBLIC_PORT`.")
        self.pulls_refused = counter(
            "pulls_refused_total",
            "Pulls refused because of a limit or an error in them, by code.",
            ("code",),
        )
        self.jwks_fetches = counter(
            "jwks_fetches_total", "Fetches of the keys at `IM_JWT_JWKS_URL`, by outcome.", ("outcome",)
        )
        self.waiting_pulls = gauge_of_worker("waiting_pulls", "Pulls held open until something arrives.")

    def exposition(self) -> bytes:
        """Returns the text Prometheus reads: of this process, or of all workers that share its port."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        registry.register(self.hot_channel_hits)
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
