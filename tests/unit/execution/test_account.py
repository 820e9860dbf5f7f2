"""An execution from outside: whether it is alive, how far it is, and ending it while no process runs it."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchrun.config import effective_job, load_job
from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.executions import Progress
from batchrun.core.job import Job
from batchrun.execution import Record, account
from batchrun.execution.control import send, take
from batchrun.results import Journal
from batchrun.store import Store

HERE = os.uname().nodename
TOTALS = {
    "total_items": 10,
    "processed_items": 6,
    "completed_items": 4,
    "failed_items": 1,
    "skipped_items": 1,
    "waiting_items": 0,
    "cancelled_items": 4,
    "nodes": [
        {
            "node_id": name,
            "node_type": "python",
            "calls": 6,
            "attempts": 6,
            "completed": 6,
            "failed": 0,
            "skipped": 0,
            "total_ms": ms,
            "max_ms": ms,
        }
        for name, ms in (("quick", 1.0), ("slow", 9.0))
    ],
    "failures": [],
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "20261101T093000-0a1b2c3d4e"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def record(folder: Path, home: Path) -> Record:
    """The record of an execution as a process of this machine leaves it that is gone."""
    record = Record(folder, {})
    job = effective_job(load_job(Job(dataset="data.csv", workflow="steps:tidy")))
    about = {"execution_id": folder.name, "job_name": "triage", "folder": str(folder), "store": str(home), "epoch": 1, "job": job}
    record.enter("running", **about, job_folder=str(folder.parent), cancel_requested_at=None)
    Journal(folder).close()
    return record


def status(record: Record, heartbeat_at: datetime | None = None) -> str:
    return account.status_of(Record.read(record.folder).content, record.folder, heartbeat_at)


def elsewhere(record: Record) -> None:
    """The process ran on another machine, whose locks are not seen here."""
    record.update(host=f"not-{HERE}")


@pytest.mark.parametrize("said", ["running", "finalizing"])
def test_an_execution_without_its_process_is_interrupted(record: Record, said: Any) -> None:
    """On the machine it ran on, the lock says so at once, whatever the store heard last."""
    record.enter(said)
    assert status(record, datetime.now(UTC)) == "interrupted"
    lock = Journal(record.folder)
    assert status(record) == said
    lock.close()
    assert status(record, datetime.now(UTC)) == "interrupted"


@pytest.mark.parametrize("said", ["pending", "paused", "waiting", "completed", "failed", "cancelled", "rejected"])
def test_an_execution_that_needs_no_process_is_what_it_says(record: Record, said: Any) -> None:
    """Only what a process was doing can be cut off."""
    record.enter(said)
    assert status(record) == said


def test_a_missing_lock_is_no_process(record: Record) -> None:
    """A copy of the folder without its lock, or with a lock nobody can read, is not run."""
    (record.folder / "journal" / "lock").unlink()
    assert status(record, datetime.now(UTC)) == "interrupted"
    elsewhere(record)
    assert status(record) == "interrupted"


def test_on_another_machine_the_heartbeat_says_whether_it_is_run(record: Record, folder: Path) -> None:
    """A lock that does not reach this machine must not make a running execution look dead, nor a silent one alive."""
    elsewhere(record)
    assert status(record) == "interrupted"
    assert status(record, datetime.now(UTC)) == "running"
    for age, expected in ((31, "interrupted"), (10, "running")):
        other = Record(folder, {**record.content, "execution_id": f"{age} seconds ago"})
        other.update()
        assert status(other, datetime.now(UTC) - timedelta(seconds=age)) == expected
    lock = Journal(record.folder)  # where it reaches, the lock is right
    assert status(record) == "running"
    lock.close()


def test_progress_is_that_of_the_last_heartbeat(record: Record, home: Path) -> None:
    """While it runs only the store knows how far it is; what a later version told besides is left out."""
    with Store(home) as store:
        store.save(record.content)
        assert account.progress_of(record.content, store.find("latest")) == Progress()
        store.beat(record.id, {"total_items": 10, "completed_items": 3, "waiting_for": {"call": 2}, "new_in_a_later_version": 1})
        progress = account.progress_of(record.content, store.find("latest"))
    assert progress == Progress(total_items=10, completed_items=3, waiting_for={"call": 2})


def test_the_end_says_how_far_it_came(record: Record, home: Path) -> None:
    """Once there is a result its counters are the truth, with a store or without one, and nothing is open any more."""
    record.enter("paused", totals=TOTALS, duration_seconds=3.0)
    expected = Progress(
        total_items=10,
        completed_items=4,
        failed_items=1,
        skipped_items=1,
        cancelled_items=4,
        total_nodes=2,
        slowest_node_id="slow",
        elapsed_seconds=3.0,
    )
    assert account.progress_of(record.content, None) == expected
    assert expected.items_per_second == 2.0
    with Store(home) as store:
        store.save(record.content)
        store.beat(
            record.id,
            {"completed_items": 99, "open_items": 3, "open_nodes": {"slow": 3}, "current_node_id": "slow", "elapsed_seconds": 2.0},
        )
        told = account.progress_of(record.content, store.find("latest"))
    assert (told.completed_items, told.open_items, told.open_nodes, told.current_node_id, told.elapsed_seconds) == (4, 0, {}, None, 2.0)


def test_the_store_is_asked_for_this_folder_only(record: Record, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a folder is not the execution that the store knows, however its path is written; a store that is none knows nothing."""
    assert account.stored_of(record.content, folder) is None
    with Store(home) as store:
        store.save(record.content)
    monkeypatch.chdir(folder.parent)
    for same in (folder, Path(folder.name), Path("..") / "runs" / folder.name):
        found = account.stored_of(record.content, same)
        assert found is not None and found.folder == folder
    assert account.stored_of(record.content, folder.with_name("copy")) is None
    (home / "store.db").write_bytes(b"no database" * 1000)
    assert account.stored_of(record.content, folder) is None
    assert account.stored_of({**record.content, "store": None}, folder) is None


@pytest.mark.parametrize("said", ["pending", "running", "finalizing", "paused", "waiting", "failed"])
def test_what_no_process_runs_is_cancelled_at_once(record: Record, folder: Path, home: Path, said: Any) -> None:
    """The folder and the list say the same, a request nobody took up is forgotten, and asking again changes nothing."""
    record.enter(said, completed_at="2026-11-01T09:30:00+00:00" if said == "paused" else None)
    send(folder, "tune", ["run.parallelism=3"])
    assert account.cancel(folder) == "done"
    content = Record.read(folder).content
    assert (content["status"], content["stop_reason"], content["error"]) == ("cancelled", "cancel", "cancelled while no process ran it")
    assert [state["status"] for state in content["states"]] == ["running", said, "cancelled"]
    assert content["states"][-1]["reason"] == "cancel"
    assert content["completed_at"] == ("2026-11-01T09:30:00+00:00" if said == "paused" else content["cancel_requested_at"])
    with Store(home) as store:
        stored = store.find(record.id)
    assert (stored.status, stored.stop_reason, stored.record) == ("cancelled", "cancel", content)
    assert stored.cancel_requested_at == datetime.fromisoformat(content["cancel_requested_at"])
    assert account.cancel(folder) == "nothing"
    assert (Record.read(folder).content, take(folder)) == (content, [])


@pytest.mark.parametrize("said", ["completed", "cancelled", "rejected"])
def test_what_has_ended_for_good_is_not_cancelled(record: Record, folder: Path, said: Any) -> None:
    """A result that is complete stays one."""
    record.enter(said)
    before = (folder / "execution.json").read_bytes()
    assert account.cancel(folder) == "nothing"
    assert ((folder / "execution.json").read_bytes(), take(folder)) == (before, [])


def test_a_running_execution_is_asked_to_cancel(record: Record, folder: Path, home: Path) -> None:
    """Only its process may end it; the list knows at once since when that is wanted, and the first time stays."""
    with Store(home) as store:
        store.save(record.content)
    lock = Journal(folder)
    assert [account.cancel(folder), account.cancel(folder)] == ["requested", "requested"]
    first, second = take(folder)
    assert (first.kind, second.kind, status(record)) == ("cancel", "cancel", "running")
    with Store(home) as store:
        assert store.find("latest").cancel_requested_at == first.at < second.at
    lock.close()


def test_an_execution_that_a_process_has_just_taken_on_is_asked_too(record: Record, folder: Path) -> None:
    """Between taking the lock and saying that it runs, a process reads for minutes, perhaps; it will hear of the request."""
    record.enter("paused")
    lock = Journal(folder)
    assert account.cancel(folder) == "requested"
    assert [request.kind for request in take(folder)] == ["cancel"]
    assert Record.read(folder).status == "paused"
    lock.close()


def test_cancelling_needs_no_store(record: Record, folder: Path, home: Path) -> None:
    """A list that is damaged, locked or gone keeps nobody from ending an execution."""
    home.mkdir()
    (home / "store.db").write_bytes(b"no database" * 1000)
    lock = Journal(folder)
    assert account.cancel(folder) == "requested"
    lock.close()
    assert account.cancel(folder) == "done"


def test_a_locked_store_does_not_hold_up_a_cancellation(record: Record, folder: Path, home: Path) -> None:
    """The process is asked before the list is told, which may take seconds."""
    with Store(home) as store:
        store.save(record.content)
    lock = Journal(folder)
    with ThreadPoolExecutor(1) as threads, closing(sqlite3.connect(home / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = threads.submit(account.cancel, folder)
        while not (taken := take(folder)):
            assert not answer.done()
        other.rollback()
        assert answer.result() == "requested"
    with Store(home) as store:
        assert [store.find("latest").cancel_requested_at] == [request.at for request in taken]
    lock.close()


def test_a_folder_that_was_moved_is_cancelled_where_it_is(record: Record, folder: Path, home: Path) -> None:
    """The list follows the folder."""
    with Store(home) as store:
        store.save(record.content)
        moved = folder.rename(folder.with_name("moved"))
        assert account.cancel(moved) == "done"
        assert (store.find("latest").folder, store.find("latest").status) == (moved, "cancelled")


def test_pausing_and_tuning_need_items_that_run(record: Record, folder: Path) -> None:
    """What was asked too late says so; what is paused needs no pause."""
    lock = Journal(folder)
    assert account.pause(folder) == "requested"
    account.tune(folder, {"run.parallelism": 3})
    with pytest.raises(JobError, match="while items run, only"):
        account.tune(folder, {"run.grace_seconds": 3})
    assert [request.kind for request in take(folder)] == ["pause", "tune"]
    record.enter("finalizing")
    for act in (account.pause, lambda folder: account.tune(folder, {"run.parallelism": 3})):
        with pytest.raises(ExecutionError, match="is finalizing: only a running execution can be"):
            act(folder)
    lock.close()
    with pytest.raises(ExecutionError, match="is interrupted: only a running execution can be paused"):
        account.pause(folder)
    record.enter("paused")
    assert account.pause(folder) == "nothing"
    with pytest.raises(
        ExecutionError, match="is paused: only a running execution can be tuned; give the new values to batchrun resume --set"
    ):
        account.tune(folder, {"run.parallelism": 3})
    assert take(folder) == []


def test_what_is_no_execution_cannot_be_steered(tmp_path: Path) -> None:
    """A slip in a path is told as one, and leaves nothing behind."""
    for act in (account.cancel, account.pause):
        with pytest.raises(ExecutionError, match="is not the folder of an execution"):
            act(tmp_path)
    assert list(tmp_path.iterdir()) == []
