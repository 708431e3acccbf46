"""All metrics, in a registry of their own. docs/observability.md lists them; the dashboard and the alerts use them."""

import platform
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from assetlane.version import __version__

_CALL_BUCKETS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_OUTSIDE_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WORK_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Gauge("assetlane_build_info", "What runs here.", ("version", "python"), registry=registry)
        build.labels(__version__, platform.python_version()).set(1)

        self.calls = Counter(
            "assetlane_calls", "Calls and watches that ended, by gRPC status.", ("method", "code"), registry=registry
        )
        self.callers = Counter(
            "assetlane_callers", "Calls and watches that ended, by the kind of caller.", ("kind",), registry=registry
        )
        self.call_seconds = Histogram(
            "assetlane_call_seconds", "Time to answer a call; watches are none.", ("method",),
            buckets=_CALL_BUCKETS, registry=registry,
        )  # fmt: skip
        self.calls_in_flight = Gauge(
            "assetlane_calls_in_flight", "Calls being answered.", ("method",), registry=registry
        )
        self.watches_open = Gauge("assetlane_watches_open", "Watches that are open.", ("method",), registry=registry)

        self.uploads = Counter(
            "assetlane_uploads", "Status changes of uploads that this process made.", ("status", "reason"),
            registry=registry,
        )  # fmt: skip
        self.promised_bytes = Counter(
            "assetlane_promised_bytes", "Size of the uploads that became INITIALIZED.", registry=registry
        )
        self.completed_bytes = Counter(
            "assetlane_completed_bytes", "Size of the uploads that became COMPLETED, as promised.", registry=registry
        )

        self.hub_silence_seconds = Gauge(
            "assetlane_hub_silence_seconds", "Time since the change stream last answered.", registry=registry
        )
        self.hub_delivery_seconds = Histogram(
            "assetlane_hub_delivery_seconds", "Time from hearing of a change until its watchers were woken.",
            buckets=_OUTSIDE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.hub_restarts = Counter(
            "assetlane_hub_restarts", "Times that the change stream was lost and reopened.", registry=registry
        )

        self.records_skipped = Counter(
            "assetlane_records_skipped", "Times that a record was skipped because this version cannot read it.",
            registry=registry,
        )  # fmt: skip
        self.mongodb_seconds = Histogram(
            "assetlane_mongodb_call_seconds", "Operations on MongoDB.", ("operation", "outcome"),
            buckets=_OUTSIDE_BUCKETS, registry=registry,
        )  # fmt: skip
        self.s3_seconds = Histogram(
            "assetlane_s3_call_seconds", "Calls to the object store.", ("operation", "outcome"),
            buckets=_OUTSIDE_BUCKETS, registry=registry,
        )  # fmt: skip

        self.sweep_seconds = Histogram(
            "assetlane_sweep_seconds", "Batches of the sweeper.", ("outcome",),
            buckets=_WORK_BUCKETS, registry=registry,
        )  # fmt: skip
        self.swept = Counter(
            "assetlane_swept", "Records that the sweeper took, by what it found.", ("kind", "outcome"),
            registry=registry,
        )  # fmt: skip

        self.cut_seconds = Histogram(
            "assetlane_cut_seconds", "Pictures cut by the server, or refused with a reason.", ("outcome",),
            buckets=_WORK_BUCKETS, registry=registry,
        )  # fmt: skip
        self.cuts_waiting = Gauge("assetlane_cuts_waiting", "Pictures that wait for their turn.", registry=registry)

    def exposition(self) -> bytes:
        """Returns all of it as Prometheus reads it. Takes some milliseconds."""
        return generate_latest(self.registry)
