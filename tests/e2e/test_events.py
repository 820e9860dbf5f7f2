"""What an execution tells others while it runs: callbacks, and the log of events."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import batchrun
from batchrun import ExecutionEnded, ExecutionStarted, ItemEnded, NodeEnded, ProgressMade, Retrying, Throttled
from batchrun.core.errors import NodeError
from tests.e2e import holding
from tests.e2e.conftest import Calls, Project, ended

FRAME = pl.DataFrame({"id": ["a", "b", "c", "d"], "size": [1, 2, 3, 4]})


class Busy(NodeError):
    """The service asks for fewer calls."""

    is_throttle = True


def moody() -> Any:
    """A function that fails in each of the ways there are."""
    calls: Counter[str] = Counter()

    def judge(item: dict[str, Any]) -> int:
        id = item["id"]
        calls[id] += 1
        if id == "a":
            raise ValueError("nothing can be made of this")
        if id == "b" and calls[id] == 1:
            raise ConnectionError("gone")
        if id == "c" and calls[id] == 1:
            raise Busy("later")
        return int(item["size"])

    return judge


def run(tmp_path: Path, on_event: Any, function: Any = None) -> batchrun.Execution:
    job = batchrun.Job(
        dataset=FRAME,
        workflow=function or moody(),
        run=batchrun.Run(
            retry=batchrun.Retry(
                max_attempts=2,
                backoff=batchrun.Backoff(initial_seconds=0.001),
                rules=(batchrun.RetryRule(match=batchrun.Match(error_type="Busy"), action="throttle"),),
            )
        ),
        output=batchrun.Output(path=str(tmp_path / "runs")),
    )
    return batchrun.execute(job, on_event=on_event)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_callback_is_told_all_that_happens(tmp_path: Path) -> None:
    """Who builds on events knows each item, each node execution, and every call that is made again, with exact times."""
    told: list[Any] = []
    execution = run(tmp_path, told.append)
    rows = {row["source_item_id"]: row for row in execution.results.to_pylist()}
    assert {event.execution_id for event in told} == {execution.id}
    first, last = told[0], told[-1]
    assert isinstance(first, ExecutionStarted) and (first.total_items, first.restored_items) == (4, 0)
    assert isinstance(last, ExecutionEnded) and (last.status, last.progress) == ("completed", execution.progress)
    items = {event.item_index: event for event in told if isinstance(event, ItemEnded)}
    nodes = {event.item_index: event for event in told if isinstance(event, NodeEnded)}
    assert items.keys() == nodes.keys() == rows.keys()
    for id, row in rows.items():
        item, node, recorded = items[id], nodes[id], row["node_executions"][0]
        assert (item.status, item.attempts, item.started_at) == (row["status"], row["attempts"], row["started_at"])
        assert (node.status, node.attempts, node.started_at) == (recorded["status"], recorded["attempts"], recorded["started_at"])
        assert (node.node_id, node.duration_ms) == (recorded["node_id"], recorded["duration_ms"])
        assert told.index(node) < told.index(item)
        assert item.at.tzinfo is UTC and item.at <= datetime.now(UTC)
    assert items[0].error is not None and items[0].error.type == nodes[0].error.type == "ValueError"  # type: ignore[union-attr]
    again = [(type(event), event.item_index, event.failed_attempts, event.error_type) for event in told if hasattr(event, "wait_seconds")]
    assert sorted(again, key=lambda each: each[1]) == [
        (Retrying, 0, 1, "ValueError"),
        (Retrying, 1, 1, "ConnectionError"),
        (Throttled, 2, 0, "Busy"),
    ]
    assert any(isinstance(event, ProgressMade) for event in told)


def test_sync_and_async_callbacks_hear_the_same(tmp_path: Path) -> None:
    """Several sinks, each in its own thread; none of them changes what another one hears."""
    plain: list[Any] = []
    awaited: list[Any] = []

    async def later(event: Any) -> None:
        await asyncio.sleep(0)
        awaited.append(event)

    run(tmp_path, [plain.append, later])
    assert plain == awaited
    assert len(plain) >= 12


def test_a_callback_that_raises_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is complete, and both people and programs learn which callback failed, how often and why."""

    def careless(event: Any) -> None:
        raise KeyError(type(event).__name__)

    execution = run(tmp_path, careless)
    assert (execution.status, execution.progress.processed_items) == ("completed", 4)
    (report,) = execution.record["event_sinks"]
    assert report["told"] == report["failed"] >= 12
    assert "careless raised KeyError: 'ExecutionStarted'" in capsys.readouterr().err
    assert batchrun.Client(runs=tmp_path / "runs").executions.get(execution.id).record["event_sinks"] == [report]


def test_a_callback_that_hangs_holds_up_neither_the_run_nor_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dead metrics service costs its events and a few seconds, and everybody is told how many were lost."""
    is_over = threading.Event()

    def hangs(_event: Any) -> None:
        is_over.wait(90)

    execution = run(tmp_path, hangs)
    is_over.set()
    assert execution.has_succeeded or execution.progress.processed_items == 4
    (report,) = execution.record["event_sinks"]
    assert (report["told"], report["failed"]) == (0, 0)
    assert f"hangs was not told of {report['dropped']:,} events" in capsys.readouterr().err


def test_nothing_is_made_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events cost nothing while nobody listens: no thread, and no event is even built."""
    before = {thread.name for thread in threading.enumerate()}
    built: list[str] = []
    for kind in (ExecutionStarted, ItemEnded, NodeEnded, Retrying, Throttled, ProgressMade, ExecutionEnded):
        monkeypatch.setattr(kind, "__init__", lambda self, **_: built.append(type(self).__name__))

    def names(_item: dict[str, Any]) -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name not in before]

    execution = run(tmp_path, (), names)
    assert built == []
    assert not any("events" in name for names in execution.results["output"].to_pylist() for name in names)


@pytest.fixture
def held(project: Project) -> Project:
    holding.write(project)
    return project


SETTINGS = ("--set", "output.events=true")


def log_of(project: Project) -> Path:
    (folder,) = project.executions
    return folder / "events.jsonl"


def ended_items(events: list[dict[str, Any]], status: str) -> list[str]:
    return sorted(event["source_item_id"] for event in events if event["event"] == "item_ended" and event["status"] == status)


def test_the_log_is_whole_after_an_interrupt_and_goes_on_with_a_resume(held: Project, calls: Calls) -> None:
    """Ctrl-C cuts off no line, and what a resume does comes after it: each item ends once, and each run says how it ended."""
    with holding.held(held, calls, "run", "job.yaml", *SETTINGS) as process:
        process.send_signal(signal.SIGINT)
        assert ended(process).code == 130
    events = lines(log_of(held))
    assert (events[0]["event"], events[-1]["event"]) == ("execution_started", "execution_ended")
    assert (events[-1]["status"], events[-1]["stop_reason"]) == ("paused", "signal")
    done = ended_items(events, "completed") + ended_items(events, "failed")
    assert len(done) == holding.AT_ONCE
    holding.release(held)
    assert held.batchrun("resume").code == 3
    events = lines(log_of(held))
    assert [event["status"] for event in events if event["event"] == "execution_ended"] == ["paused", "completed"]
    assert [event["restored_items"] for event in events if event["event"] == "execution_started"] == [0, holding.AT_ONCE]
    assert ended_items(events, "completed") == sorted(f"item {at}" for at in range(12) if at != 1)
    assert ended_items(events, "failed") == ["item 1"]


def test_the_log_survives_a_kill(held: Project, calls: Calls) -> None:
    """Half a line is cut off, the rest can be read, and the resume writes on."""
    with holding.held(held, calls, "run", "job.yaml", *SETTINGS) as process:
        holding.kill(process)
    log = log_of(held)
    with log.open("ab") as file:
        file.write(b'{"event":"item_en')
    holding.release(held)
    assert held.batchrun("resume").code == 3
    events = lines(log)
    assert Counter(event["event"] for event in events)["execution_started"] == 2
    assert set(ended_items(events, "completed") + ended_items(events, "failed")) == {f"item {at}" for at in range(12)}


def test_a_log_that_cannot_be_written_does_not_stop_the_run(held: Project) -> None:
    """A log is a sink like any other: trouble with it is said, and the items run."""
    holding.release(held)
    submitted = held.batchrun("run", "job.yaml", "--limit", "3")
    assert submitted.code == 3
    (folder,) = held.executions
    (folder / "events.jsonl").mkdir()
    again = held.batchrun("retry", "--set", "output.events=true")
    assert again.code == 3
    assert "events.jsonl: Is a directory; events are not written down" in again.err


@pytest.fixture(autouse=True)
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector of whoever runs the tests is none of theirs."""
    for signal_ in ("", "TRACES_", "METRICS_"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{signal_}ENDPOINT", raising=False)
