"""Puts together, from the settings and the environment, what an operator sees of one server."""

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from pydantic import SecretStr

from assetlane.version import install_command
from assetlane_server.config.settings import Settings
from assetlane_server.model.errors import NotReady
from assetlane_server.telemetry.audit import AuditLog
from assetlane_server.telemetry.endpoint import exposed
from assetlane_server.telemetry.instruments import Instruments, Tracer
from assetlane_server.telemetry.log import log_to
from assetlane_server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Observability:
    """What every part of a server reports, and where its metrics are, if they are wanted."""

    instruments: Instruments
    metrics: Metrics | None

    @asynccontextmanager
    async def endpoint(
        self, settings: Settings, *, silence_seconds: Callable[[], float], is_serving: Callable[[], bool]
    ) -> AsyncIterator[None]:
        """Answers Prometheus and health checks until the block ends, where the settings want it. Raises NotReady."""
        metrics, listen = self.metrics, settings.metrics_listen
        if metrics is None or listen is None:
            yield
            return
        refresh = lambda: metrics.hub_silence_seconds.set(silence_seconds())  # noqa: E731 - mypy wants it bound here
        async with exposed(metrics, listen, refresh=refresh, is_serving=is_serving) as address:
            more = {"event_code": "METRICS_SERVED", "listen": address}
            _log.info("metrics on http://%s/metrics", address, extra=more)
            yield


@asynccontextmanager
async def observability(
    settings: Settings, environment: Mapping[str, str] = os.environ, spans: "SpanExporter | None" = None
) -> AsyncIterator[Observability]:
    """Opens it all. Traces go to `spans`, or where the standard variables of OpenTelemetry say. Raises NotReady."""
    metrics = None if settings.metrics_listen is None else Metrics()
    async with AsyncExitStack() as resources:
        tracer: Tracer | None = None
        if spans is not None or wants_traces(environment):
            try:
                from assetlane_server.telemetry.tracing import tracing
            except ImportError as error:
                raise NotReady(
                    "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, and OpenTelemetry is not installed:"
                    f" {install_command('otel')}, or unset it",
                    reason="OTEL_MISSING",
                    settings=("OTEL_EXPORTER_OTLP_ENDPOINT",),
                ) from error
            tracer = await resources.enter_async_context(tracing(spans))
            _log.info("traces are sent")
        yield Observability(Instruments(metrics, tracer, logs_all_calls=settings.log_calls == "all"), metrics)


@asynccontextmanager
async def opened_audit_log(settings: Settings) -> AsyncIterator[AuditLog | None]:
    """Opens the audit log, where the settings want one. Raises NotReady when it cannot be written and has to be."""
    if settings.audit_file is None:
        yield None
        return
    log = AuditLog(settings.audit_file, is_required=settings.audit_required)
    try:
        await log.check()
    except OSError as error:
        if settings.audit_required:
            fault = f"{settings.audit_file} cannot be written: {error.strerror or type(error).__name__}"
            raise NotReady.of_setting("ASSETLANE_AUDIT_FILE", "FILE_UNWRITABLE", fault) from error
    try:
        yield log
    finally:
        await log.aclose()


def wants_traces(environment: Mapping[str, str]) -> bool:
    """Returns whether the environment asks for traces. Raises NotReady if it asks for what there is not."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    if not any(environment.get(name) for name in _ENDPOINTS):
        return False
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        fault = f"traces are sent as http/protobuf (port 4318), not as {protocol}"
        raise NotReady.of_setting("OTEL_EXPORTER_OTLP_PROTOCOL", "PROTOCOL_UNSUPPORTED", fault)
    return True


def log_as_set(stream: TextIO, settings: Settings) -> None:
    """Sends the log of this process to the stream, in the settings' format, without the settings' secrets."""
    log_to(stream, level=settings.log_level, form=settings.log_format, secrets=secrets_of(settings))


def secrets_of(settings: Settings) -> list[str]:
    """Returns the values that no line may hold: of every SecretStr, and the password in a URI."""
    values = (getattr(settings, name) for name in Settings.model_fields)
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    passwords = [uri.rpartition("@")[0].rpartition("://")[2].partition(":")[2] for uri in secrets if "://" in uri]
    return [*secrets, *passwords]
