from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchrun.store import ExecutionQuery, Store, StoreError, store_home

Record = Callable[..., dict[str, Any]]


def test_home_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every command of a person looks at the same list."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path))
    assert store_home() == tmp_path
    monkeypatch.setenv("BATCHRUN_HOME", "")
    assert store_home() == Path(".batchrun")
    monkeypatch.delenv("BATCHRUN_HOME")
    assert store_home() == Path(".batchrun")


def test_the_file_is_made_by_the_first_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record: Record) -> None:
    """Looking leaves nothing behind; what is written is private; a change of folder does not split the list."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHRUN_HOME", raising=False)
    with Store.open() as store:
        assert store.executions() == []
        assert list(tmp_path.iterdir()) == []

        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.save(record())
    assert store.path == tmp_path / ".batchrun" / "store.db"
    assert [path.name for path in store.path.parent.iterdir()] == ["store.db"]
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_a_folder_with_odd_characters(tmp_path: Path, record: Record) -> None:
    """The path of the store is a path, not a URL."""
    home = tmp_path / "50% off? #1 Ünï 'x'" / os.fsdecode(b"\xff")
    with Store.open(home) as store:
        store.save(record())
    assert (home / "store.db").is_file()
    with Store.open(home) as store:
        assert len(store.executions()) == 1


def test_it_is_in_wal_mode(store: Store, record: Record) -> None:
    """Readers never wait for writers."""
    store.save(record())
    other = sqlite3.connect(store.path)
    try:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.execute("BEGIN IMMEDIATE")
        assert len(store.executions()) == 1
    finally:
        other.close()


@pytest.mark.parametrize("content", [b"this is not a database\n" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_file_that_is_no_database(home: Path, record: Record, content: bytes) -> None:
    """What cannot be read is not overwritten; the message says how to get the list back."""
    home.mkdir()
    (home / "store.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.db is damaged or not a store .*delete it and run `batchrun list --rebuild`"):
        Store.open(home)
    with pytest.raises(StoreError, match="delete it"):
        Store(home).save(record())
    assert (home / "store.db").read_bytes() == content

    (home / "store.db").unlink()
    with Store.open(home) as store:
        assert store.rebuild([record()], print) == 1


def test_a_damaged_page(home: Path, record: Record) -> None:
    """Damage inside the file is told like a damaged file, whatever it hits, and never as wrong rows."""
    with Store.open(home) as store:
        for minute in range(50):
            store.save(record(minute))
    path = home / "store.db"
    whole = path.read_bytes()
    told = []
    for page in range(len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :])
        try:
            with Store.open(home) as store:
                counts = {len(store.executions(ExecutionQuery(job=job))) for job in ("triage", "tri*")}
        except StoreError as error:
            told.append(str(error))
        else:
            assert counts == {50}
    assert told
    assert [note for note in told if "delete it and run `batchrun list --rebuild`" not in note] == []


def test_values_that_cannot_be_read(store: Store, record: Record) -> None:
    """A value that another program put there is told like damage, not as a traceback."""
    for change in (
        "UPDATE executions SET created_at = 'soon'",
        "UPDATE executions SET record = '{'",
        "UPDATE executions SET record = '[]'",
        "UPDATE executions SET progress = '3'",
        "UPDATE executions SET record = cast(x'ff' as text)",
        "UPDATE jobs SET job = '{'",
        "DROP TABLE jobs",
    ):
        store.save(record())
        other = sqlite3.connect(store.path)
        other.execute(change)
        other.commit()
        other.close()
        with pytest.raises(StoreError, match="delete it and run `batchrun list --rebuild`"):
            store.find("latest")


def test_an_earlier_version_is_brought_up_to_date(home: Path, record: Record) -> None:
    """A file from before the first version, which is empty, is filled in place."""
    home.mkdir()
    sqlite3.connect(home / "store.db").close()
    (home / "store.db").touch()
    with Store.open(home) as store:
        store.save(record())
        assert len(store.executions()) == 1
    other = sqlite3.connect(home / "store.db")
    assert (other.execute("PRAGMA user_version").fetchone(), other.execute("PRAGMA journal_mode").fetchone()) == ((2,), ("wal",))
    other.close()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("CREATE TABLE notes (text)", "is the database of another program; choose another folder"),
        ("PRAGMA user_version = 9", "newer batchrun \\(version 9 of the file, this one knows 2\\); update batchrun"),
    ],
)
def test_files_of_other_programs_are_left_alone(home: Path, record: Record, script: str, said: str) -> None:
    """Neither another program's database nor that of a newer batchrun is changed."""
    home.mkdir()
    other = sqlite3.connect(home / "store.db")
    other.execute(script)
    other.commit()
    other.close()
    before = (home / "store.db").read_bytes()
    with pytest.raises(StoreError, match=said):
        Store.open(home)
    with pytest.raises(StoreError, match=said):
        Store(home).save(record())
    assert (home / "store.db").read_bytes() == before


@pytest.mark.parametrize("left", [("-wal", "-shm"), ()])
def test_the_file_may_be_deleted_while_it_is_open(store: Store, home: Path, record: Record, left: tuple[str, ...]) -> None:
    """What is written after the file was deleted is not lost, and what was in it does not come back from its left-overs."""
    store.save(record(0))
    for suffix in {"", "-wal", "-shm"} - set(left):
        (home / f"store.db{suffix}").unlink()
    assert store.executions() == []
    assert store.beat(record(0)["execution_id"], {}) is False
    store.save(record(1))
    with Store.open(home) as other:
        assert [execution.id for execution in other.executions()] == [record(1)["execution_id"]]
        assert other.rebuild([record(0), record(1)], print) == 2
    assert len(store.executions()) == 2


def test_left_overs_of_a_killed_process_do_not_come_back(home: Path, record: Record) -> None:
    """A store deleted after a crash, without its journal, starts empty."""
    with Store.open(home) as store:
        store.save(record(0))
        kept = {suffix: (home / f"store.db{suffix}").read_bytes() for suffix in ("-wal", "-shm")}
    (home / "store.db").unlink()
    for suffix, content in kept.items():
        (home / f"store.db{suffix}").write_bytes(content)
    with Store.open(home) as store:
        store.save(record(1))
        assert [execution.id for execution in store.executions()] == [record(1)["execution_id"]]


def test_a_home_that_cannot_be_made(tmp_path: Path, record: Record) -> None:
    """The message says what to change; reading needs no folder at all."""
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with Store.open(home) as store:
            assert store.executions() == []
            with pytest.raises(StoreError, match="a part of the path is a file; choose a folder you may read and write with BATCHRUN_HOME"):
                store.save(record())
