"""Traces and metrics, with the exporters in memory that OpenTelemetry has for tests, and with a collector on loopback."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import batchrun
from batchrun.telemetry.collector import collector_of_environment
from batchrun.testing.loopback import Answer, LoopbackServer, Received

FRAME = pl.DataFrame({"id": ["a", "b", "c"]})
JOB = {
    "name": "traced",
    "dataset": {"path": "data.parquet", "id": "id"},
    "workflow": {
        "nodes": [
            {"id": "first", "type": "template", "template": "{{ item.id }}"},
            {"id": "second", "type": "python", "call": "traced_steps:second", "inputs": {"id": "{{ nodes.first.output }}"}},
            {"id": "third", "type": "template", "template": "x", "when": "{{ item.id == 'none' }}", "needs": ["second"]},
        ],
        "output": "{{ nodes.second.output }}",
    },
    "run": {"retry": {"max_attempts": 2, "backoff": {"initial_seconds": 0.001}}},
}
STEPS = """\
calls = []


def second(id: str) -> str:
    calls.append(id)
    if id == "a" or (id == "b" and calls.count("b") == 1):
        raise ValueError(f"no {id}")
    return id
"""


def test_every_node_execution_is_a_span_under_its_item(traced_job: Path) -> None:
    """Who looks at a trace sees the execution, its items and their nodes, with the times of the result and what failed."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing, metering = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    execution = batchrun.execute(traced_job, on_event=batchrun.OpenTelemetry(tracing, metering), quiet=True)
    made = spans.get_finished_spans()
    (top,) = (span for span in made if span.parent is None)
    items = {span.attributes["batchrun.item.id"]: span for span in made if span.name == "item"}
    nodes = [span for span in made if span.name.startswith("node ")]
    assert (top.name, top.attributes["batchrun.execution.id"], top.attributes["batchrun.items"]) == ("execution traced", execution.id, 3)
    assert {span.context.trace_id for span in made} == {top.context.trace_id}
    assert {span.parent.span_id for span in items.values()} == {top.context.span_id}
    rows = {row["source_item_id"]: row for row in execution.results.to_pylist()}
    assert items.keys() == rows.keys()
    for id, item in items.items():
        mine = {span.attributes["batchrun.node.id"]: span for span in nodes if span.parent.span_id == item.context.span_id}
        ran = {node["node_id"]: node for node in rows[id]["node_executions"] if node["status"] != "skipped"}
        assert mine.keys() == ran.keys()
        for node_id, span in mine.items():
            assert span.start_time == int(ran[node_id]["started_at"].timestamp() * 1e6) * 1_000
            assert (span.end_time - span.start_time) / 1e6 == pytest.approx(ran[node_id]["duration_ms"], abs=0.001)
            assert (span.attributes["batchrun.status"], span.attributes["batchrun.attempts"]) == (
                ran[node_id]["status"],
                ran[node_id]["attempts"],
            )
    assert (items["a"].status.status_code, items["a"].status.description) == (StatusCode.ERROR, "no a")
    assert items["a"].attributes["error.type"] == "ValueError"
    assert items["b"].status.status_code == StatusCode.UNSET
    points = _points(reader)
    assert points["batchrun.items", "completed"].value == 2
    assert points["batchrun.items", "failed"].value == 1
    assert points["batchrun.retries", "second"].value == 2
    assert points["batchrun.node.duration", "second", "failed"].count == 1
    assert ("batchrun.throttles", "second") not in points


def _points(reader: InMemoryMetricReader) -> dict[tuple[Any, ...], Any]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        (metric.name, *(value for key, value in sorted(dict(point.attributes).items()) if key != "batchrun.job.name")): point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def test_the_providers_of_the_program_are_used_as_they_are(traced_job: Path) -> None:
    """Without a provider nothing is exported and nothing breaks: OpenTelemetry itself decides what a program sends."""
    execution = batchrun.execute(traced_job, on_event=batchrun.OpenTelemetry(), quiet=True)
    assert "event_sinks" not in execution.record


def test_the_usual_variables_send_traces_and_metrics(traced_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_EXPORTER_OTLP_ENDPOINT is all that it takes, also for processes that nobody can pass a callback."""
    received: dict[str, Received] = {}

    def collect(request: Received) -> Answer:
        received[request.path] = request
        return Answer()

    with LoopbackServer(collect) as service:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", service.url)
        execution = batchrun.execute(traced_job, quiet=True)
    assert "event_sinks" not in execution.record
    traces = ExportTraceServiceRequest.FromString(_body(received["/v1/traces"]))
    metrics = ExportMetricsServiceRequest.FromString(_body(received["/v1/metrics"]))
    names = Counter(span.name for resource in traces.resource_spans for scope in resource.scope_spans for span in scope.spans)
    assert names == {"execution traced": 1, "item": 3, "node first": 3, "node second": 3}
    counted = {metric.name for resource in metrics.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics}
    assert {"batchrun.items", "batchrun.node.duration", "batchrun.retries"} <= counted


def _body(request: Received) -> bytes:
    return gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body


def test_nothing_is_sent_unless_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No execution talks to a collector because a library is installed."""
    assert collector_of_environment(print) == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    assert len(collector_of_environment(print)) == 1
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert collector_of_environment(print) == []


def test_a_collector_that_is_not_there_does_not_break_the_run(traced_job: Path) -> None:
    """Variables that are meant for other programs cost an execution a few seconds at most, and people learn what was lost."""
    # In a process of its own: the exporter's threads go on trying for a while.
    command = [sys.executable, "-m", "batchrun", "run", traced_job.name]
    environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    ended = subprocess.run(command, cwd=traced_job.parent, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 3  # completed; one of its items fails
    assert "Collector was still being closed when the run ended; what it holds may be lost" in ended.stderr


@pytest.fixture
def traced_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path / "home"))
    monkeypatch.delitem(sys.modules, "traced_steps", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "traced_steps.py").write_text(STEPS)
    FRAME.write_parquet(tmp_path / "data.parquet")
    path = tmp_path / "traced.yaml"
    path.write_text(json.dumps(JOB))
    return path
