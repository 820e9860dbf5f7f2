from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from batchrun.store import Heartbeat, Store

Record = Callable[..., dict[str, Any]]
_NEVER_SECONDS = 3600.0


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def _until(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    while not condition():
        tick.wait(0.01)


def test_a_record_is_written_at_once(store: Store, home: Path, record: Record) -> None:
    """`list` shows a change of status without waiting for a heartbeat."""
    heartbeat = Heartbeat(print, home, interval_seconds=_NEVER_SECONDS)
    heartbeat.save(record())
    _until(lambda: bool(store.executions()) and store.executions()[0].heartbeat_at is not None)
    heartbeat.save(record(status="completed"))
    _until(lambda: store.executions()[0].status == "completed")
    heartbeat.close()


def test_the_heart_beats_by_itself(store: Store, home: Path, record: Record) -> None:
    """An execution whose event loop is busy is not taken for dead; the newest progress is told."""
    heartbeat = Heartbeat(print, home, interval_seconds=0.01)
    heartbeat.beat({"processed_items": 1})
    heartbeat.save(record())
    heartbeat.beat({"processed_items": 2})
    _until(lambda: bool(store.executions()) and store.executions()[0].progress == {"processed_items": 2})
    seen = store.executions()[0].heartbeat_at
    _until(lambda: store.executions()[0].heartbeat_at > seen)
    heartbeat.close()
    assert "batchrun-heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_close_writes_what_was_handed_over(store: Store, home: Path, record: Record) -> None:
    """The last state and the last progress are never lost to the pause between heartbeats."""
    heartbeat = Heartbeat(print, home, interval_seconds=_NEVER_SECONDS)
    heartbeat.save(record())
    heartbeat.save(record(status="completed"))
    heartbeat.beat({"processed_items": 5})
    heartbeat.close()
    assert (store.find("latest").status, store.find("latest").progress) == ("completed", {"processed_items": 5})


def test_nothing_handed_over_leaves_nothing_behind(home: Path) -> None:
    """A run that is refused before its first state makes no store, and needs no thread."""
    heartbeat = Heartbeat(print, home)
    heartbeat.beat({"processed_items": 1})
    assert "batchrun-heartbeat" not in [thread.name for thread in threading.enumerate()]
    heartbeat.close()
    assert not home.exists()


def test_progress_of_an_earlier_process_stays_until_there_is_a_newer_one(store: Store, home: Path, record: Record) -> None:
    """An execution that is resumed must not seem to begin anew while its items are loaded."""
    store.save(record())
    store.beat(record()["execution_id"], {"processed_items": 70})
    seen = store.executions()[0].heartbeat_at
    heartbeat = Heartbeat(print, home, interval_seconds=0.01)
    heartbeat.save(record(epoch=2))
    _until(lambda: store.executions()[0].heartbeat_at > seen)
    assert store.find("latest").progress == {"processed_items": 70}
    heartbeat.beat({"processed_items": 71})
    heartbeat.close()
    assert store.find("latest").progress == {"processed_items": 71}


def test_the_store_stays_where_it_was_at_the_beginning(tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of a user that changes the working directory must not move the list."""
    monkeypatch.delenv("BATCHRUN_HOME")
    monkeypatch.chdir(tmp_path)
    heartbeat = Heartbeat(print)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("BATCHRUN_HOME", "other")
    heartbeat.save(record())
    heartbeat.close()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_dir()) == [".batchrun", "elsewhere"]


def test_the_record_may_change_after_it_was_handed_over(store: Store, home: Path, record: Record) -> None:
    """The owner of the record goes on with it; the thread has its own."""
    notes: list[str] = []
    heartbeat = Heartbeat(notes.append, home, interval_seconds=_NEVER_SECONDS)
    changing = record()
    heartbeat.save(changing)
    changing.clear()
    heartbeat.close()
    assert (store.find("latest").record, notes) == (record(), [])


def test_a_locked_store_holds_up_nobody(store: Store, home: Path, record: Record) -> None:
    """While another process keeps the file locked, handing over and closing go on; the last state is written when it is free again."""
    store.save(record())
    notes: list[str] = []
    heartbeat = Heartbeat(notes.append, home, interval_seconds=0.01)
    with _locked(store.path):
        for update in range(1000):
            heartbeat.save(record(step=update))
            heartbeat.beat({"processed_items": update})
        heartbeat.close()
        assert store.find("latest").record == record()
        assert len(notes) == 1
        assert "batchrun list --rebuild" in notes[0]
    _until(lambda: store.find("latest").record.get("step") == 999)
    _until(lambda: store.find("latest").progress == {"processed_items": 999})
    _until(lambda: "batchrun-heartbeat" not in [thread.name for thread in threading.enumerate()])


def test_trouble_is_told_once(home: Path, record: Record) -> None:
    """A store that cannot be written all night leaves one line in the log."""
    home.write_text("a file, not a folder")
    notes: list[str] = []
    heartbeat = Heartbeat(notes.append, home, interval_seconds=0.01)
    heartbeat.save(record())
    _until(lambda: bool(notes))
    heartbeat.save(record(status="completed"))
    heartbeat.close()
    (note,) = notes
    assert note.startswith("the execution goes on, but the list of executions may not show it: cannot use the list of executions")


@pytest.mark.parametrize("place", ["/proc/self/home", "/sys/kernel/home", "/dev/null/home", "/dev/null"])
def test_a_place_nobody_can_write_to_is_told_once(place: str, record: Record) -> None:
    """Read-only file systems, folders of others, paths that cannot be: the execution does not mind."""
    notes: list[str] = []
    heartbeat = Heartbeat(notes.append, Path(place), interval_seconds=0.01)
    for step in range(3):
        heartbeat.save(record(step=step))
        _until(lambda: bool(notes))
    heartbeat.close()
    (note,) = notes
    assert "choose a folder you may read and write with BATCHRUN_HOME" in note


_FULL = """
import resource, sys, threading
from pathlib import Path
from batchrun.store import Heartbeat, Store

home, notes = Path(sys.argv[1]), []
record = {"execution_id": "id", "job_name": "j", "folder": "/f", "created_at": "2026-11-01", "states": []}
heartbeat, tick = Heartbeat(notes.append, home, interval_seconds=0.01), threading.Event()

def until(condition):
    while not condition():
        tick.wait(0.01)

def listed():
    with Store(home) as store:
        return [execution.status for execution in store.executions()]

if sys.argv[2] == "later":
    heartbeat.save({**record, "status": "running"})
    until(lambda: listed() == ["running"])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
heartbeat.save({**record, "status": "finalizing", "error": "x" * 100_000})
until(lambda: notes)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
until(lambda: listed() == ["finalizing"])
heartbeat.save({**record, "status": "completed"})
heartbeat.close()
print(listed(), len(notes), notes[0].partition("store.db: ")[2])
"""


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_disk_that_takes_no_more_is_told_once(home: Path, when: str) -> None:
    """The file cannot be made, or cannot grow: once there is space again, the list is right again."""
    ended = subprocess.run([sys.executable, "-c", _FULL, str(home), when], capture_output=True, text=True, check=False)
    said = "the disk does not take it, as when it is full, over a quota or broken; free space"
    assert (ended.stdout, ended.stderr) == (f"['completed'] 1 {said}\n", "")


def test_a_file_that_is_damaged_meanwhile_is_told_once(store: Store, home: Path, record: Record) -> None:
    """A list that is replaced by something else in the middle of a run stops nothing; deleted, as the note says, it comes back."""
    notes: list[str] = []
    heartbeat = Heartbeat(notes.append, home, interval_seconds=0.01)
    heartbeat.save(record())
    _until(lambda: bool(store.executions()))
    (home / "other").write_bytes(b"no database" * 1000)
    (home / "other").replace(store.path)
    heartbeat.save(record(status="finalizing"))
    _until(lambda: bool(notes))
    for left in home.iterdir():
        left.unlink()
    _until(lambda: bool(store.executions()))
    heartbeat.close()
    assert (len(notes), "is damaged or not a store" in notes[0], store.find("latest").status) == (1, True, "finalizing")


def test_trouble_passes(home: Path, record: Record) -> None:
    """An execution that could not be listed is listed as soon as the store works."""
    home.write_text("a file, not a folder")
    notes: list[str] = []
    heartbeat = Heartbeat(notes.append, home, interval_seconds=0.01)
    heartbeat.save(record(step=1))
    _until(lambda: bool(notes))
    heartbeat.save(record(step=2))
    heartbeat.beat({"processed_items": 2})
    home.unlink()
    with Store.open(home) as store:
        _until(lambda: bool(store.executions()))
        heartbeat.close()
        assert (store.find("latest").record, store.find("latest").progress) == (record(step=2), {"processed_items": 2})


def test_what_cannot_be_stored_is_told(store: Store, home: Path, record: Record) -> None:
    """A record or progress that is not JSON ends neither the thread nor the run."""
    notes: list[str] = []
    heartbeat = Heartbeat(notes.append, home, interval_seconds=0.01)
    heartbeat.save(record(totals={"folder": home}))
    _until(lambda: bool(notes))
    heartbeat.save(record())
    _until(lambda: bool(store.executions()))
    heartbeat.close()
    assert (len(notes), "not JSON serializable" in notes[0]) == (1, True)


def test_a_deleted_store_lists_the_execution_again(store: Store, home: Path, record: Record) -> None:
    """Deleting the file, or rebuilding it from other folders, loses a running execution for a moment only."""
    heartbeat = Heartbeat(print, home, interval_seconds=0.01)
    heartbeat.save(record(epoch=2))
    _until(lambda: bool(store.executions()))
    store.path.unlink()
    _until(lambda: bool(store.executions()))
    store.rebuild([], print)
    _until(lambda: bool(store.executions()))
    heartbeat.close()
    assert store.find("latest").record == record(epoch=2)
