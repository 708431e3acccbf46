"""Hears of everything, once, and passes it on to the log, the metrics and the traces that there are."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, Protocol

import grpc
from typing_extensions import override

from assetlane_server.model.caller import CallerKind
from assetlane_server.model.errors import PictureRefused
from assetlane_server.model.upload import Status, StatusChange, Upload
from assetlane_server.ports.access import Access
from assetlane_server.ports.meter import Meter, Server
from assetlane_server.telemetry.calls import CallFacts, enter, request_id_of
from assetlane_server.telemetry.line_budget import LineBudget
from assetlane_server.telemetry.metrics import Metrics

_calls_log = logging.getLogger("assetlane_server.calls")
_uploads_log = logging.getLogger("assetlane_server.uploads")
_REQUEST_ID = "x-request-id"

# By whose fault a call fails. INTERNAL has a line of its own, with the traceback, before this one.
_LEVELS = {
    grpc.StatusCode.OK: logging.DEBUG,
    grpc.StatusCode.CANCELLED: logging.DEBUG,  # a caller who goes away is no failure
    grpc.StatusCode.INTERNAL: logging.ERROR,
    grpc.StatusCode.UNAVAILABLE: logging.WARNING,
    grpc.StatusCode.DEADLINE_EXCEEDED: logging.WARNING,
    grpc.StatusCode.RESOURCE_EXHAUSTED: logging.WARNING,
}


# What strangers, or more load than a server takes, cause by the thousand.
_MANY = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED})


class Span(Protocol):
    """A part of a trace. Its methods never raise."""

    __slots__ = ()  # adds nothing to what implements it

    def end(self, failure: str = "") -> None:
        """It is over; with what went wrong on the server's side."""
        ...

    def set(self, name: str, value: str | int) -> None:
        """Says something about it."""
        ...


class Tracer(Protocol):
    """Where traces begin."""

    def call(self, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> Span:
        """Begins the span of a call, a child of the caller's, current in this task for good.

        `method` is `/package.Service/Method`.
        """
        ...

    def asking(self, server: Server, operation: str) -> Span:
        """Begins the span of an operation outside, a child of the current one."""
        ...


class Instruments(Meter):
    """A Meter, and a CallObserver of rpc/. Without metrics and a tracer it still logs."""

    def __init__(self, metrics: Metrics | None, tracer: Tracer | None, *, logs_all_calls: bool = False) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._levels = _LEVELS | {grpc.StatusCode.OK: logging.INFO} if logs_all_calls else _LEVELS
        self._refusals = None if logs_all_calls else LineBudget(_calls_log)

    # CallObserver

    def began(self, method: str, metadata: Sequence[tuple[str, str | bytes]], *, is_watch: bool) -> "SeenCall":
        """Begins to observe a call of `/package.Service/Method`, in the task that serves it."""
        asked = next((value for name, value in metadata if name == _REQUEST_ID), None)
        facts = CallFacts(method.rpartition(".")[2], request_id_of(asked))
        enter(facts)
        span = None if self._tracer is None else self._tracer.call(method, metadata)
        return SeenCall(facts, self._metrics, span, self._levels, self._refusals, is_watch=is_watch)

    # Meter

    @override
    def asking(self, server: Server, operation: str) -> AbstractContextManager[object]:
        if self._metrics is None and self._tracer is None:
            return _NOTHING
        span = None if self._tracer is None else self._tracer.asking(server, operation)
        return _Asking(self._metrics, span, server, operation)

    @override
    def moved(self, upload: Upload, *, after_revision: int) -> None:
        for change in upload.history:
            if change.revision > after_revision:
                self._changed(upload, change)

    def _changed(self, upload: Upload, change: StatusChange) -> None:
        if (metrics := self._metrics) is not None:
            metrics.uploads.labels(change.status, change.reason).inc()
            if change.status in (Status.INITIALIZED, Status.COMPLETED):
                sizes = sum(variant.size_bytes for variant in upload.variants)
                is_new = change.status is Status.INITIALIZED
                (metrics.promised_bytes if is_new else metrics.completed_bytes).inc(sizes)
        level = logging.INFO if change.status.is_final else logging.DEBUG
        if _uploads_log.isEnabledFor(level):
            facts = {"upload_id": upload.upload_id, "owner": upload.uid, "status": change.status.value}
            if change.reason:
                facts["reason"] = change.reason
            _uploads_log.log(level, "upload %s", change.status.lower(), extra=facts | {"revision": change.revision})

    @override
    def skipped(self) -> None:
        if self._metrics is not None:
            self._metrics.records_skipped.inc()

    @override
    def stream_lost(self) -> None:
        if self._metrics is not None:
            self._metrics.hub_restarts.inc()

    @override
    def delivered(self, delay_s: float) -> None:
        if self._metrics is not None:
            self._metrics.hub_delivery_seconds.observe(delay_s)

    @override
    def sweeping(self) -> AbstractContextManager[object]:
        return _NOTHING if self._metrics is None else _Timing(self._metrics.sweep_seconds)

    @override
    def swept(self, kind: str, *, is_settled: bool) -> None:
        if self._metrics is not None:
            self._metrics.swept.labels(kind, "ok" if is_settled else "failed").inc()

    @override
    def waiting_to_cut(self) -> AbstractContextManager[object]:
        return _NOTHING if self._metrics is None else self._metrics.cuts_waiting.track_inprogress()

    @override
    def cutting(self) -> AbstractContextManager[object]:
        return _NOTHING if self._metrics is None else _Timing(self._metrics.cut_seconds)


class SeenCall:
    """One call that is under way: an ObservedCall of rpc/."""

    __slots__ = ("_begun", "_facts", "_gauge", "_is_watch", "_kind", "_levels", "_metrics", "_refusals", "_span")

    def __init__(
        self,
        facts: CallFacts,
        metrics: Metrics | None,
        span: Span | None,
        levels: dict[grpc.StatusCode, int],
        refusals: LineBudget | None,
        *,
        is_watch: bool,
    ) -> None:
        self._facts = facts
        self._metrics = metrics
        self._span = span
        self._levels = levels
        self._refusals = refusals
        self._is_watch = is_watch
        self._begun = perf_counter()
        self._kind: CallerKind | None = None
        self._gauge = None
        if metrics is not None:
            self._gauge = (metrics.watches_open if is_watch else metrics.calls_in_flight).labels(facts.method)
            self._gauge.inc()

    @property
    def request_id(self) -> str:
        """What the caller, the log and the traces call it."""
        return self._facts.request_id

    def admitted(self, access: Access) -> None:
        """Takes in who calls, and for whom."""
        self._facts.is_made_by(access.uid, access.actor)
        self._kind = access.kind

    def refused(self, uid: str) -> None:
        """Takes in who calls, of a call that is refused for that."""
        self._facts.is_made_by(uid)

    def asked(self, request: Any) -> None:
        """Takes in what the request is about."""
        self._facts.asks(request)

    def ended(self, code: grpc.StatusCode, reason: str = "", response: Any = None) -> None:
        """Logs and counts the call, and ends its span."""
        seconds = perf_counter() - self._begun
        facts = self._facts
        if self._gauge is not None and self._metrics is not None:
            self._gauge.dec()
            self._metrics.calls.labels(facts.method, code.name).inc()
            self._metrics.callers.labels("unknown" if self._kind is None else self._kind.value).inc()
            if not self._is_watch:
                self._metrics.call_seconds.labels(facts.method).observe(seconds)
        level = self._levels.get(code, logging.INFO)
        is_logged = _calls_log.isEnabledFor(level)
        if is_logged or self._span is not None:
            facts.is_answered(response)
        if self._span is not None:
            self._end_span(self._span, code, reason)
        if is_logged and (self._refusals is None or code not in _MANY or self._refusals.allows(reason or code.name)):
            more: dict[str, object] = {
                "event_code": "CALL_ENDED",
                "code": code.name,
                "duration_ms": round(seconds * 1000, 3),
            }
            if reason:
                more["reason"] = reason
            _calls_log.log(level, "call ended", extra=more)

    def _end_span(self, span: Span, code: grpc.StatusCode, reason: str) -> None:
        number: int = code.value[0]
        span.set("rpc.grpc.status_code", number)
        for name, value in self._facts.fields():
            if name != "method":
                span.set(f"assetlane.{name}", value)
        # As OpenTelemetry has it: what is the caller's fault is no error of a server.
        is_ours = self._levels.get(code, logging.INFO) >= logging.WARNING and code.name != "RESOURCE_EXHAUSTED"
        span.end(reason or code.name if is_ours else "")


class _Timing:
    """Times a block into a histogram by its outcome."""

    __slots__ = ("_begun", "_histogram")

    def __init__(self, histogram: Any) -> None:
        self._histogram = histogram

    def __enter__(self) -> None:
        self._begun = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._histogram.labels(_outcome(kind, error)).observe(perf_counter() - self._begun)


class _Asking:
    """Times and traces one operation outside."""

    __slots__ = ("_begun", "_metrics", "_operation", "_server", "_span")

    def __init__(self, metrics: Metrics | None, span: Span | None, server: Server, operation: str) -> None:
        self._metrics = metrics
        self._span = span
        self._server = server
        self._operation = operation

    def __enter__(self) -> None:
        self._begun = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        outcome = _outcome(kind, error)
        if (metrics := self._metrics) is not None:
            histogram = metrics.mongodb_seconds if self._server == "mongodb" else metrics.s3_seconds
            histogram.labels(self._operation, outcome).observe(perf_counter() - self._begun)
        if self._span is not None:
            self._span.end("" if kind is None else kind.__name__)


def _outcome(kind: type[BaseException] | None, error: BaseException | None) -> str:
    """Returns a label of few values: `ok`, `cancelled`, `failed`, or the reason why a picture was refused."""
    if kind is None:
        return "ok"
    if isinstance(error, PictureRefused):
        return error.reason
    return "cancelled" if issubclass(kind, (asyncio.CancelledError, GeneratorExit)) else "failed"


_NOTHING: AbstractContextManager[object] = nullcontext()
