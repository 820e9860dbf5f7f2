"""What is measured: served while an execution runs, and summed up when it has ended."""

from __future__ import annotations

import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

import batchrun
from batchrun.testing.loopback import LoopbackServer, json_answer
from tests.e2e import holding
from tests.e2e.conftest import Calls, Project, ended
from tests.e2e.holding import until

SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\} (\S+)')
NAMED = '"a \\"good\\" job\\\\ of\\nmine"'
"""A name as it stands in YAML, and escaped in the same way in the metrics."""


@pytest.fixture
def held(project: Project) -> Project:
    holding.write(project)
    return project


def scraped(url: str) -> dict[tuple[str, ...], float]:
    """The samples by name and values of labels, the job aside."""
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            labels = dict(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', match[2]))
            assert labels.pop("job") == NAMED.strip('"'), line
            found[match[1], *labels.values()] = float(match[3])
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(families) == len(set(families))
    return found


def url_of(stderr: IO[str] | None) -> str:
    """Where metrics are, as people are told."""
    assert stderr is not None
    while not (line := stderr.readline()).startswith("metrics: "):
        assert line
    return line.removeprefix("metrics: ").strip()


def test_metrics_are_served_while_items_are_held(held: Project, calls: Calls) -> None:
    """A dashboard sees items, what they wait for, calls and durations of an execution that has not ended; then nothing."""
    arguments = ("run", "job.yaml", "--metrics-port", "0", "--set", f"name={NAMED}")
    with holding.held(held, calls, *arguments) as process:
        url = url_of(process.stderr)
        until(
            lambda: scraped(url)["batchrun_open_items",] == holding.PARALLELISM and scraped(url)["batchrun_items_total", "completed"] == 5
        )
        found = scraped(url)
        assert found["batchrun_items_total", "failed"] == 1
        assert found["batchrun_items",] == holding.ITEMS
        assert found["batchrun_waiting_items", "call"] == holding.PARALLELISM
        assert found["batchrun_node_executions_total", "judge", "failed"] == 1
        until(lambda: scraped(url)["batchrun_node_duration_seconds_count", "fetch"] == 6)
        found = scraped(url)
        bounds = [(float(key[2]), count) for key, count in found.items() if key[0].endswith("_bucket") and key[1] == "fetch"]
        assert bounds[-1] == (float("inf"), 6)
        assert [count for _, count in bounds] == sorted(count for _, count in bounds)
        assert 0 < found["batchrun_node_duration_seconds_sum", "fetch"] < 60
        until(lambda: scraped(url)["batchrun_waited_seconds_total", "call"] > 0)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url.replace("/metrics", "/secrets"), timeout=30)  # noqa: S310 - loopback
        holding.release(held)
        assert ended(process).code == 3
    with pytest.raises(urllib.error.URLError):
        scraped(url)


def test_a_silent_reader_does_not_hold_up_the_end(held: Project, calls: Calls) -> None:
    """Whoever connects and sends nothing is no reason to wait."""
    with holding.held(held, calls, "run", "job.yaml", "--metrics-port", "0") as process:
        port = int(url_of(process.stderr).split(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)):
            holding.release(held)
            assert ended(process).code == 3


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_in_use_is_said_before_the_first_item(held: Project) -> None:
    """Nobody finds out after a night that nothing was measured; and nothing is left behind."""
    with taken_port() as port:
        refused = held.batchrun("run", "job.yaml", "--metrics-port", str(port))
    assert refused.code == 2
    assert f"metrics cannot be served on 127.0.0.1:{port}: Address already in use; choose another port, or 0 for any" in refused.err
    assert held.executions == []


def test_a_detached_run_cannot_serve_metrics(held: Project) -> None:
    """An option that would do nothing is refused."""
    refused = held.batchrun("run", "job.yaml", "--detach", "--metrics-port", "0")
    assert (refused.code, held.executions) == (2, [])


STEPS = """\
import time
from pathlib import Path


async def slow(size: int) -> int:
    import asyncio

    await asyncio.sleep(0.4 if size == 99 else 0.001)
    return size


def flaky(size: int) -> int:
    if size == 7 and not Path("seen").exists():
        Path("seen").touch()
        raise ConnectionError("gone")
    return size
"""
JOB = """\
name: measured
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: slow, type: python, call: "steps:slow", inputs: {size: "{{ item.size }}"}}
    - {id: flaky, type: python, call: "steps:flaky", inputs: {size: "{{ nodes.slow.output }}"}}
run: {parallelism: 8, retry: {max_attempts: 2, backoff: {initial_seconds: 0.001}}}
"""


def test_the_summary_says_how_long_calls_took_and_how_many_were_made_again(project: Project) -> None:
    """One slow call of a hundred does not hide in the mean, and percentiles are close to what the result says."""
    project.write("steps.py", STEPS)
    project.write("job.yaml", JOB)
    project.write("data.csv", "id,size\n" + "".join(f"item {size},{size}\n" for size in range(100)))
    run = project.batchrun("run", "job.yaml")
    assert run.code == 0
    assert re.search(r"node +calls +failed +retries +mean ms +p50 ms +p95 ms +p99 ms +max ms", run.err)
    (execution,) = map(batchrun.Execution, project.executions)
    slow, flaky = execution.nodes
    durations = sorted(row[0]["duration_ms"] for row in execution.results["node_executions"].to_pylist())
    assert slow.p50_ms == pytest.approx(durations[49], rel=0.06)
    assert slow.p95_ms == pytest.approx(durations[94], rel=0.06)
    assert slow.p99_ms == pytest.approx(durations[98], rel=0.06)
    assert slow.max_ms == durations[99] >= 399  # timers of event loops may count whole milliseconds
    assert (flaky.calls, flaky.attempts) == (100, 101)
    assert "p95 ms" in project.batchrun("show", "--nodes").out


def test_waits_add_up_over_resumes_and_are_shown(held: Project, calls: Calls) -> None:
    """Who asks why an execution took so long learns what its items waited for, whatever process it was in."""
    with holding.held(held, calls) as process:
        process.send_signal(signal.SIGINT)
        assert ended(process).code == 130
    (folder,) = held.executions
    before = batchrun.Execution(folder).waited_seconds["call"]
    assert before > 0
    with holding.held(held, calls, "resume", earlier_calls=holding.PARALLELISM) as process:
        until(lambda: batchrun.Execution(folder).progress.open_items == holding.PARALLELISM)
        holding.release(held)
        assert ended(process).code == 3
    assert batchrun.Execution(folder).waited_seconds["call"] > before
    assert "of all items together: " in held.batchrun("show").out


QUEUED = """\
name: queued
dataset: {path: data.csv, id: id}
resources: {api: {base_url: "%s", max_concurrency: 1}}
workflow:
  nodes:
    - {id: ask, type: http, resource: api, request: {path: /ask}}
    - {id: join, type: python, call: "steps:join", needs: [ask], inputs: {id: "{{ item.id }}"}, batch: {max_items: 4, max_wait_ms: 3600000}}
run: {parallelism: 4, max_open_items: 8}
"""


def test_items_that_queue_say_for_what(project: Project) -> None:
    """A service that lets one call through, and a batch that is not full, are told from calls that take long."""
    project.write("steps.py", "def join(id: list[str]) -> list[str]:\n    return id\n")
    project.write("data.csv", "id\n" + "".join(f"item {at}\n" for at in range(4)))
    held, answered = json_answer({}, held=True), json_answer({})
    with LoopbackServer({"/ask": [held, held, answered]}) as service:
        project.write("job.yaml", QUEUED % service.url)
        process = project.start("run", "job.yaml")
        until(lambda: bool(project.executions) and (project.executions[0] / "execution.json").exists())
        (folder,) = project.executions

        def waiting_for() -> dict[str, int]:
            return {what: count for what, count in batchrun.Execution(folder).progress.waiting_for.items() if count}

        until(lambda: waiting_for() == {"call": 1, "resource": 3})
        service.release(1)
        until(lambda: waiting_for() == {"call": 1, "resource": 2, "batch": 1})
        service.release()
        assert ended(process).code == 0
