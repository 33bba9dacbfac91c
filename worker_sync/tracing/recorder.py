"""Spans by OpenTelemetry's SDK, sent by OTLP over HTTP. The one module that knows the SDK besides the outbox."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

import worker_sync
from worker_sync.core.secrets import Url
from worker_sync.core.sections import Tracing
from worker_sync.core.spans import Kind, Span, Value
from worker_sync.tracing.outbox import Outbox

#: What OTLP's specification adds to a collector's address.
PATH: Final = "/v1/traces"
_KINDS: Final = {
    Kind.INTERNAL: SpanKind.INTERNAL,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
    Kind.CLIENT: SpanKind.CLIENT,
}
_PREFIX: Final = "worker_sync."


class _Recorded:
    """One of OpenTelemetry's spans as ours."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def recording(self) -> bool:
        return self._span.is_recording()

    def set(self, **attributes: Value) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(_PREFIX + name, value)

    def fail(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR))


class Recorder:
    """Records the spans of one process, which is a `role`."""

    def __init__(self, settings: Tracing, role: str) -> None:
        quieten()
        self._outbox = Outbox(lambda: connect(settings), place_of(settings), settings.queue_spans)
        ratio = settings.sample_ratio
        self._provider = TracerProvider(
            # None: as OTEL_TRACES_SAMPLER says.
            sampler=None if ratio is None else ParentBased(TraceIdRatioBased(ratio)),
            resource=resource(role),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=1024),
        )
        self._provider.add_span_processor(self._outbox)
        self._tracer = self._provider.get_tracer("worker_sync", worker_sync.__version__)

    @contextmanager
    def span(self, name: str, kind: Kind, parent: str, link: str) -> Iterator[Span]:
        links = [Link(found)] if (found := parsed(link)) else None
        around = None if (above := parsed(parent)) is None else _inside(NonRecordingSpan(above))
        opened = self._tracer.start_span(name, around, _KINDS[kind], links=links)
        token = attach(_inside(opened))
        try:
            yield _Recorded(opened)
        finally:
            detach(token)
            opened.end()

    def current(self) -> Span:
        return _Recorded(trace.get_current_span())

    def traceparent(self) -> str:
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return ""
        return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags):02x}"

    def ids(self) -> tuple[str, str] | None:
        found = trace.get_current_span().get_span_context()
        return (f"{found.trace_id:032x}", f"{found.span_id:016x}") if found.is_valid else None

    def counts(self) -> Mapping[str, int]:
        return self._outbox.counts()

    def end(self) -> None:
        self._provider.shutdown()


def parsed(traceparent: str) -> SpanContext | None:
    """The span that a traceparent names. None for what is none: whatever stands in a message's header must not hinder
    its work."""
    parts = str(traceparent).split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2] or parts[0] == "ff":
        return None
    try:
        trace_id, span_id, flags = (int(part, 16) for part in parts[1:4])
    except ValueError:
        return None
    found = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return found if found.is_valid else None


def _inside(span: trace.Span) -> Context:
    return trace.set_span_in_context(span)


def resource(role: str) -> Resource:
    """What the spans come from; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go first."""
    own = {
        "service.name": "worker-sync",
        "service.version": worker_sync.__version__,
        "host.name": socket.gethostname(),
        "worker_sync.role": role,
    }
    said = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = {part.partition("=")[0].strip() for part in said.split(",")}
    if os.environ.get("OTEL_SERVICE_NAME"):
        named.add("service.name")
    return Resource.create({name: value for name, value in own.items() if name not in named})


def connect(settings: Tracing) -> SpanExporter:
    """The way to the collector. What the configuration leaves out is as OTEL_EXPORTER_OTLP_... say."""
    headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
    return OTLPSpanExporter(endpoint=_endpoint(settings), headers=headers or None, timeout=settings.timeout_s)


def place_of(settings: Tracing) -> str:
    """Where spans go, as the log may say it."""
    given = _endpoint(settings)
    return str(Url(given)) if given else "the collector of OTEL_EXPORTER_OTLP_ENDPOINT"


def _endpoint(settings: Tracing) -> str | None:
    if settings.endpoint is None:
        return None
    address = settings.endpoint.reveal()
    has_path = bool(address.partition("://")[2].partition("/")[2])
    return address if has_path else address.rstrip("/") + PATH


def quieten() -> None:
    """The library logs every failed request; ours says once that the collector is away."""
    for name in ("opentelemetry", "requests"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
