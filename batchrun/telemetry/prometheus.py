"""Metrics of a running execution for Prometheus: a small web server, and the text it answers with."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import attrgetter
from typing import Any, NamedTuple

from batchrun.core.checks import problem, refuse
from batchrun.core.errors import JobError
from batchrun.core.executions import Progress, ResourceState
from batchrun.core.items import Usage

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CLIENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """Serve `/metrics` for Prometheus for as long as an execution runs.

    Args:
        port: where; 0: any free port, which is then told.
        host: the address to listen on. Anybody who reaches it can read the metrics.

    Example:
        >>> batchrun.execute("configs/quickstart.yaml", on_event=batchrun.Prometheus(port=9464))  # doctest: +SKIP
    """

    port: int = 9464
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        refuse(problem("port", None if 0 <= self.port <= 65_535 else f"must be 0 to 65535, got {self.port}"))


class NodeFigures(NamedTuple):
    """One node so far.

    Attributes:
        executions: by status.
        cached: outputs that came from the cache.
        attempts: calls that were not throttled.
        durations: upper bounds in seconds, and how many executions took less.
        timed: executions that were not skipped.
        total_seconds: the sum of their durations.
        retries: calls that failed and were made again; in this process.
        throttles: calls that were put off; in this process.
        usage: what its calls used.
    """

    node_id: str
    executions: Mapping[str, int]
    cached: int
    attempts: int
    durations: Sequence[tuple[float, int]]
    timed: int
    total_seconds: float
    retries: int
    throttles: int
    usage: Usage = Usage()


class Figures(NamedTuple):
    """An execution so far."""

    job_name: str
    progress: Progress
    waited_seconds: Mapping[str, float]
    nodes: Sequence[NodeFigures]


class MetricsServer:
    """Answers `GET /metrics` in threads of its own.

    Args:
        where: the address.

    Raises:
        JobError: the address cannot be used.
    """

    def __init__(self, where: Prometheus) -> None:
        try:
            self._server = ThreadingHTTPServer((where.host, where.port), _Handler)
        except OSError as error:
            reason, address = os.strerror(error.errno) if error.errno else error, f"{where.host}:{where.port}"
            raise JobError([f"metrics cannot be served on {address}: {reason}; choose another port, or 0 for any"]) from None
        self._server.daemon_threads = True
        self._server.block_on_close = False  # a reader that never ends its request holds up nobody
        self.url = f"http://{where.host}:{self._server.server_address[1]}/metrics"
        self._thread: threading.Thread | None = None

    def serve(self, text: Callable[[], str]) -> None:
        """Answer from here on, with the text of the moment."""
        handler = type("_Bound", (_Handler,), {"text": staticmethod(text)})
        self._server.RequestHandlerClass = handler
        options = {"poll_interval": 0.1}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=options, name="batchrun-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more. May be called again."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = _CLIENT_SECONDS
    text: Callable[[], str] = staticmethod(str)

    def do_GET(self) -> None:
        """Answer a request; the name is that of http.server."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "only /metrics is here")
            return
        body = self.text().encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Write no log: standard error belongs to the progress."""


def exposition(figures: Figures) -> str:
    """The figures in the text exposition format."""
    return "".join(f"{line}\n" for line in _lines(figures))


def _lines(figures: Figures) -> Iterator[str]:
    job, progress = {"job": figures.job_name}, figures.progress
    by_status = {name: getattr(progress, f"{name}_items") for name in ("completed", "failed", "skipped", "waiting", "cancelled")}
    yield from _family("batchrun_items_total", "counter", "Items that have ended, earlier runs of the execution included.")
    yield from (_sample("batchrun_items_total", {**job, "status": status}, count) for status, count in by_status.items())
    for name, text, value in (
        ("batchrun_items", "Items of the dataset.", progress.total_items),
        ("batchrun_open_items", "Items that have begun and not ended.", progress.open_items),
        ("batchrun_elapsed_seconds", "Time since this process began its first item.", round(progress.elapsed_seconds, 3)),
    ):
        yield from _family(name, "gauge", text)
        yield _sample(name, job, value)
    yield from _family("batchrun_waiting_items", "gauge", "Open items by what they wait for.")
    yield from (_sample("batchrun_waiting_items", {**job, "for": what}, count) for what, count in progress.waiting_for.items())
    yield from _family("batchrun_waited_seconds_total", "counter", "Time of all open items together by what they waited for, sampled.")
    waited = figures.waited_seconds.items()
    yield from (_sample("batchrun_waited_seconds_total", {**job, "for": what}, round(seconds, 3)) for what, seconds in waited)
    yield from _resource_lines(job, progress.resources)
    yield from _node_lines(job, figures.nodes)


def _resource_lines(job: Mapping[str, str], resources: Mapping[str, ResourceState]) -> Iterator[str]:
    for name, kind, text, of in (
        ("in_flight", "gauge", "Calls that are being made to a service.", lambda state: state["in_flight"]),
        ("queued", "gauge", "Calls that wait for their turn at a service.", lambda state: state["queued"]),
        ("limit", "gauge", "The most calls at a time to a service.", lambda state: math.inf if state["limit"] is None else state["limit"]),
        (
            "parked",
            "gauge",
            "Whether calls are parked because a service is out of order.",
            lambda state: int(state["parked_at"] is not None),
        ),
        ("calls_total", "counter", "Calls to a service, in this process.", lambda state: state["calls"]),
        ("throttled_total", "counter", "Calls that a service answered with 429 or 503, in this process.", lambda state: state["throttled"]),
        ("opened_total", "counter", "How often calls were parked, in this process.", lambda state: state["opened"]),
        ("tokens_total", "counter", "Tokens that calls to a service have used, in this process.", lambda state: state["tokens"]),
    ):
        yield from _family(f"batchrun_resource_{name}", kind, text)
        for resource, state in resources.items():
            value = of(state)
            yield _sample(f"batchrun_resource_{name}", {**job, "resource": resource}, "+Inf" if value == math.inf else value)


def _node_lines(job: Mapping[str, str], nodes: Sequence[NodeFigures]) -> Iterator[str]:
    name = "batchrun_node_executions_total"
    yield from _family(name, "counter", "Node executions of items that have ended.")
    for node in nodes:
        yield from (_sample(name, {**job, "node": node.node_id, "status": status}, count) for status, count in node.executions.items())
    for name, text, of in (
        ("batchrun_node_attempts_total", "Calls that were not throttled.", attrgetter("attempts")),
        ("batchrun_node_cache_hits_total", "Outputs that came from the cache.", attrgetter("cached")),
        ("batchrun_node_retries_total", "Calls that failed and were made again, in this process.", attrgetter("retries")),
        ("batchrun_node_throttles_total", "Calls that were put off by a service, in this process.", attrgetter("throttles")),
        ("batchrun_node_input_tokens_total", "Tokens that calls sent.", attrgetter("usage.input_tokens")),
        ("batchrun_node_output_tokens_total", "Tokens that calls were answered.", attrgetter("usage.output_tokens")),
        ("batchrun_node_cost_total", "What calls cost, in the unit of the budget.", attrgetter("usage.cost")),
    ):
        yield from _family(name, "counter", text)
        yield from (_sample(name, {**job, "node": node.node_id}, of(node)) for node in nodes)
    name = "batchrun_node_duration_seconds"
    yield from _family(name, "histogram", "How long the last call of a node execution took.")
    for node in nodes:
        labels = {**job, "node": node.node_id}
        yield from (_sample(f"{name}_bucket", {**labels, "le": f"{bound:g}"}, count) for bound, count in node.durations)
        yield _sample(f"{name}_bucket", {**labels, "le": "+Inf"}, node.timed)
        yield _sample(f"{name}_sum", labels, round(node.total_seconds, 6))
        yield _sample(f"{name}_count", labels, node.timed)


def _family(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float | str) -> str:
    shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
