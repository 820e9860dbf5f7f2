from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

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
    """A run that is refused before its first state makes no store."""
    Heartbeat(print, home).close()
    assert not home.exists()


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
