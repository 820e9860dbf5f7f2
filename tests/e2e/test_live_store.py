"""Executions and the list of executions: whatever becomes of the list, the executions go on."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from batchrun.store import Store
from tests.e2e.conftest import Calls, Project, default_home, ended
from tests.e2e.steered import ITEMS, STEPS, Steered, steering, until

TROUBLE = "the execution goes on, but the list of executions may not show it: "


@pytest.fixture
def steered(project: Project, calls: Calls) -> Iterator[Steered]:
    with steering(project, calls) as steered:
        yield steered


def check_ended_well(steered: Steered) -> None:
    """The execution is what it would have been without any trouble."""
    assert steered.release() == 0, steered.said
    assert steered.project.record["status"] == "completed"
    assert steered.project.counters["completed_items"] == ITEMS
    assert [state["status"] for state in steered.project.record["states"]] == ["running", "finalizing", "completed"]


def put_garbage(home: Path) -> None:
    home.mkdir()
    (home / "store.db").write_bytes(b"no database" * 1000)


def put_other_database(home: Path) -> None:
    home.mkdir()
    with closing(sqlite3.connect(home / "store.db")) as other:
        other.execute("CREATE TABLE notes (text)")


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (put_garbage, "store.db is damaged or not a store"),
        (put_other_database, "store.db is the database of another program; choose another folder with BATCHRUN_HOME"),
        (lambda home: home.write_text("a file"), "a part of the path is a file; choose a folder you may read and write with BATCHRUN_HOME"),
        (lambda home: home.symlink_to("/proc/self"), "choose a folder you may read and write with BATCHRUN_HOME"),
    ],
    ids=["damaged", "of another program", "no folder", "not writable"],
)
def test_a_list_that_cannot_be_written_is_told_once_and_stops_nothing(steered: Steered, prepare: object, said: str) -> None:
    """The trouble comes before there is a display, and lasts; people are told of it once, and how to end it."""
    prepare(steered.project.folder / ".batchrun")  # type: ignore[operator]
    steered.start()
    steered.until_said(said)
    assert steered.look().status == "running"
    check_ended_well(steered)
    assert steered.said.count(TROUBLE) == steered.said.count("BATCHRUN_HOME" if "BATCHRUN_HOME" in said else "store.db") == 1


def test_a_locked_list_holds_nothing_up(steered: Steered) -> None:
    """A program that keeps the list locked from the first to the last moment costs a line, and the list is right at the next end."""
    with Store(steered.project.folder / ".batchrun") as store:
        store.save({"execution_id": "0", "job_name": "j", "status": "completed", "folder": "/f", "created_at": "2026-11-01", "states": []})
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        steered.start()
        check_ended_well(steered)
        assert steered.said.count(TROUBLE) + steered.said.count("the store is busy") == 1
    assert steered.stored.id == "0"
    assert steered.project.batchrun("list", "--rebuild").code == 0
    assert steered.stored.id == steered.project.record["execution_id"]


def test_a_list_that_is_deleted_comes_back(steered: Steered) -> None:
    """Who clears the list while something runs sees it again within a second, as far as it is then."""
    steered.start()
    until(lambda: [execution.progress.get("open_items") for execution in steered.listed] == [3])
    shutil.rmtree(steered.project.folder / ".batchrun")
    until(lambda: [execution.progress.get("open_items") for execution in steered.listed] == [3])
    check_ended_well(steered)
    assert (steered.stored.record, TROUBLE in steered.said) == (steered.project.record, False)


def test_many_processes_share_the_list_they_are_told(steered: Steered) -> None:
    """Jobs of several folders, started together, are in one list; it is where BATCHRUN_HOME says, and nowhere else."""
    project, home = steered.project, steered.project.folder / "shared" / "home"
    (project.folder / "release").touch()
    environment = {**default_home(), "BATCHRUN_HOME": os.path.relpath(home, project.folder)}
    processes = [project.start("run", "job.yaml", "--set", f"name=job-{number}", env=environment) for number in range(6)]
    outcomes = [ended(process) for process in processes]
    assert [outcome.code for outcome in outcomes] == [0] * 6
    assert not any(TROUBLE in outcome.err for outcome in outcomes)
    with Store.open(home) as store:
        listed = {execution.job_name: (execution.status, execution.progress["completed_items"]) for execution in store.executions()}
        folders = {execution.folder for execution in store.executions()}
        stores = {execution.record["store"] for execution in store.executions()}
    assert listed == {f"job-{number}": ("completed", ITEMS) for number in range(6)}
    assert (folders, stores) == (set(project.executions), {str(home)})
    assert not (project.folder / ".batchrun").exists()
    assert [path.name for path in home.iterdir()] == ["store.db"]


def test_a_function_that_changes_the_working_directory_does_not_move_the_list(steered: Steered) -> None:
    """The list and the results are where they were when the execution began."""
    moving = "def plus(size: int) -> int:\n    os.chdir(Path(__file__).with_name('elsewhere'))\n"
    steered.project.write("steps.py", STEPS.replace("def plus(size: int) -> int:\n", moving))
    (steered.project.folder / "elsewhere").mkdir()
    (steered.project.folder / "elsewhere" / "release").touch()
    steered.start(held=0)
    assert steered.wait() == 0, steered.said
    assert (steered.stored.status, steered.stored.folder) == ("completed", steered.folder)
    assert sorted(path.name for path in (steered.project.folder / "elsewhere").iterdir()) == ["release"]
