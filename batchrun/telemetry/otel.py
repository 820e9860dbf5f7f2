"""OpenTelemetry: a trace of each execution, and metrics. Needs the extra: pip install 'batchrun[otel]'."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import singledispatchmethod
from typing import Any

from batchrun.core.errors import ErrorRecord
from batchrun.core.events import Event, ExecutionEnded, ExecutionStarted, ItemEnded, NodeEnded, Retrying, Throttled
from batchrun.version import VERSION

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import Span, Status, StatusCode
except ImportError as missing:
    raise ImportError("OpenTelemetry is an extra of batchrun: pip install 'batchrun[otel]'") from missing

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class OpenTelemetry:
    """Makes a span of each execution, under it one of each item, under that one of each node execution; and counts.

    Spans have the times at which things happened; those of an item are made when it has ended. Nodes that were skipped have none.

    Args:
        tracer_provider: makes the spans; null: the one that was set for the whole program.
        meter_provider: counts; null: as above.

    Example:
        >>> batchrun.execute("configs/quickstart.yaml", on_event=batchrun.OpenTelemetry())  # doctest: +SKIP
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None) -> None:
        self._providers = (tracer_provider or trace.get_tracer_provider(), meter_provider or metrics.get_meter_provider())
        self._tracer = self._providers[0].get_tracer("batchrun", VERSION)
        meter = self._providers[1].get_meter("batchrun", VERSION)
        self._items = meter.create_counter("batchrun.items", unit="{item}", description="Items that have ended, by status")
        self._durations = meter.create_histogram("batchrun.node.duration", unit="s", description="Last call of a node execution")
        self._retries = meter.create_counter("batchrun.retries", unit="{call}", description="Calls that failed and are made again")
        self._throttles = meter.create_counter("batchrun.throttles", unit="{call}", description="Calls that a service put off")
        self._executions: dict[str, Span] = {}
        self._jobs: dict[str, str] = {}
        self._nodes: dict[str, list[NodeEnded]] = {}  # of the item whose end comes next

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._take(event)

    def close(self) -> None:
        """Send what has not been sent yet."""
        for provider in self._providers:
            flush = getattr(provider, "force_flush", None)
            if flush is not None:
                flush()

    @singledispatchmethod
    def _take(self, event: Event) -> None:
        """Other events are not shown."""

    @_take.register
    def _(self, event: ExecutionStarted) -> None:
        self._jobs[event.execution_id] = event.job_name
        attributes = {"batchrun.execution.id": event.execution_id, "batchrun.job.name": event.job_name, "batchrun.items": event.total_items}
        self._executions[event.execution_id] = self._span(f"execution {event.job_name}", None, event.at, attributes)

    @_take.register
    def _(self, event: ExecutionEnded) -> None:
        span = self._executions.pop(event.execution_id, None)
        self._jobs.pop(event.execution_id, None)
        self._nodes.pop(event.execution_id, None)
        if span is not None:
            span.set_attribute("batchrun.status", event.status)
            span.set_attribute("batchrun.failed_items", event.progress.failed_items)
            if event.status == "failed":
                span.set_status(Status(StatusCode.ERROR, event.error))
            span.end(_ns(event.at))

    @_take.register
    def _(self, event: NodeEnded) -> None:
        nodes = self._nodes.setdefault(event.execution_id, [])
        if nodes and nodes[-1].item_index != event.item_index:  # the end of that item was dropped
            nodes.clear()
        nodes.append(event)
        if event.started_at is not None:
            attributes = {**self._named(event), "batchrun.node.id": event.node_id, "batchrun.status": event.status}
            self._durations.record(event.duration_ms / 1e3, attributes)

    @_take.register
    def _(self, event: ItemEnded) -> None:
        self._items.add(1, {**self._named(event), "batchrun.status": event.status})
        nodes = self._nodes.pop(event.execution_id, [])
        if event.started_at is None:
            return
        attributes = {
            "batchrun.item.id": str(event.source_item_id),
            "batchrun.item.index": event.item_index,
            "batchrun.status": event.status,
            "batchrun.attempts": event.attempts,
        }
        item = self._span("item", self._executions.get(event.execution_id), event.started_at, attributes)
        for node in nodes:
            if node.item_index == event.item_index and node.started_at is not None:
                self._node(node, node.started_at, item)
        _failed(item, event.error)
        item.end(_ns(event.started_at) + int(event.duration_ms * 1e6))

    @_take.register
    def _(self, event: Retrying) -> None:
        self._retries.add(1, {**self._named(event), "batchrun.node.id": event.node_id})

    @_take.register
    def _(self, event: Throttled) -> None:
        self._throttles.add(1, {**self._named(event), "batchrun.node.id": event.node_id})

    def _node(self, node: NodeEnded, started_at: datetime, item: Span) -> None:
        attributes: dict[str, Any] = {
            "batchrun.node.id": node.node_id,
            "batchrun.node.type": node.node_type,
            "batchrun.node.occurrence": node.occurrence,
            "batchrun.status": node.status,
            "batchrun.attempts": node.attempts,
            "batchrun.cache_hit": node.cache_hit,
        }
        if node.usage is not None:
            attributes |= {"batchrun.input_tokens": node.usage.input_tokens, "batchrun.output_tokens": node.usage.output_tokens}
        span = self._span(f"node {node.node_id}", item, started_at, attributes)
        _failed(span, node.error)
        span.end(_ns(started_at) + int(node.duration_ms * 1e6))

    def _span(self, name: str, parent: Span | None, started_at: datetime, attributes: Mapping[str, Any]) -> Span:
        context = trace.set_span_in_context(parent or trace.INVALID_SPAN)
        return self._tracer.start_span(name, context=context, start_time=_ns(started_at), attributes=attributes)

    def _named(self, event: Event) -> dict[str, str]:
        return {"batchrun.job.name": self._jobs.get(event.execution_id, "")}


class Exporting(OpenTelemetry):
    """Sends to the collector that the usual OTEL_* variables name, through providers of its own."""

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - slow, and rarely needed
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - as above
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above

        resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or "batchrun"})
        self._tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._metering = MeterProvider(
            [PeriodicExportingMetricReader(OTLPMetricExporter())] if _is_wanted("METRICS") else [], resource, shutdown_on_exit=False
        )
        if _is_wanted("TRACES"):
            self._tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        super().__init__(self._tracing, self._metering)

    def close(self) -> None:
        """Send what has not been sent yet, and close the connections."""
        self._tracing.shutdown()
        self._metering.shutdown()


def _is_wanted(signal: str) -> bool:
    """Whether traces or metrics have somewhere to go."""
    has_place = any(os.environ.get(f"OTEL_EXPORTER_OTLP_{name}ENDPOINT") for name in ("", f"{signal}_"))
    return has_place and os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp") == "otlp"


def _failed(span: Span, error: ErrorRecord | None) -> None:
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error.message))
        span.set_attribute("error.type", error.type)


def _ns(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND * 1000
