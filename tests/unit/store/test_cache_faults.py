"""The cache of outputs when its file is not as it should be: no call suffers, and people are told once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.store.caches import PATIENCE_SECONDS, fill, found, key, opened, output, start, wait_until

NOT_A_CACHE = {
    "text": b"this is not a database\n" * 500,
    "nothing": b"",
    "header": b"SQLite format 3\x00" + b"\xff" * 5_000,
}


@pytest.mark.parametrize("content", NOT_A_CACHE.values(), ids=NOT_A_CACHE.keys())
def test_a_file_that_is_no_cache(home: Path, content: bytes) -> None:
    """It is neither used nor overwritten, and people are told once what to do; no call suffers."""
    home.mkdir()
    (home / "cache.db").write_bytes(content)
    notes: list[str] = []
    with opened(home, notes, interval_seconds=0.01) as cache:
        for number in range(100):
            assert cache.get(key(number)) is None
            cache.put(key(number), output(number), "classify", "f1")
        assert cache.changed_since("classify", "f2") is None
    assert len(notes) == 1 and "cache.db is damaged or no cache of this batchrun" in notes[0] and "delete it" in notes[0]
    assert (home / "cache.db").read_bytes() == content
    (home / "cache.db").unlink()
    fill(home, range(3))
    assert found(home, range(3)) == [0, 1, 2]


def test_a_cache_of_a_newer_batchrun_stays_as_it_is(home: Path) -> None:
    """Going back to an older version never costs what the newer one has kept."""
    fill(home, range(3))
    newer = sqlite3.connect(home / "cache.db")
    newer.execute("PRAGMA user_version = 2")
    newer.close()
    before, notes = (home / "cache.db").read_bytes(), list[str]()
    with opened(home, notes) as cache:
        assert cache.get(key(1)) is None
        cache.put(key(7), output(7), "classify", "f1")
    assert len(notes) == 1 and "a newer batchrun has written it" in notes[0]
    assert (home / "cache.db").read_bytes() == before


@given(
    positions=st.lists(st.integers(0, 10**6), min_size=1, max_size=12), start_of_damage=st.integers(0, 10**6), zeroes=st.integers(0, 4_096)
)
@settings(max_examples=40)
def test_a_damaged_file_never_gives_a_wrong_output(
    positions: list[int], start_of_damage: int, zeroes: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever bits of it flip and whatever is lost of it, an output is the one that was kept or none at all."""
    home = tmp_path_factory.mktemp("home")
    with opened(home) as cache:
        for number in range(300):
            cache.put(key(number), output(number, number % 7 * 100), "classify", "f1")
    content = bytearray((home / "cache.db").read_bytes())
    for position in positions:
        content[position % len(content)] ^= 1 << position % 8
    place = start_of_damage % len(content)
    content[place : place + zeroes] = bytes(len(content[place : place + zeroes]))
    (home / "cache.db").write_bytes(content)
    notes: list[str] = []
    with opened(home, notes, interval_seconds=0.01) as cache:
        for number in range(300):
            assert cache.get(key(number)) in (None, output(number, number % 7 * 100))
            cache.put(key(1_000 + number), output(1_000 + number), "classify", "f1")
    assert len(notes) <= 1


def test_an_output_that_is_damaged_is_told_and_kept_anew(home: Path) -> None:
    """An output that is not the one of its key costs one call, even if it is one itself."""
    fill(home, range(3))
    file = sqlite3.connect(home / "cache.db", isolation_level=None)
    file.execute(
        "UPDATE entries SET (output, checksum) = (SELECT output, checksum FROM entries WHERE key = ?) WHERE key = ?", (key(2), key(1))
    )
    file.close()
    notes: list[str] = []
    with opened(home, notes) as cache:
        assert cache.get(key(1)) is None
        cache.put(key(1), output(1), "classify", "f1")
    assert len(notes) == 1 and "damaged in places" in notes[0]
    assert found(home, range(3)) == [0, 1, 2]


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Another process writes, and takes its time."""
    other = sqlite3.connect(home / "cache.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


def test_a_writer_holds_up_no_reader(home: Path) -> None:
    """While another process writes, outputs are found as ever; what was handed over is kept when it is done."""
    fill(home, range(3))
    notes: list[str] = []
    with opened(home, notes, interval_seconds=0.01, busy_seconds=0.01) as cache, locked(home):
        cache.put(key(7), output(7), "classify", "f1")
        wait_until(lambda: bool(notes))
        assert [cache.get(key(number)) for number in (0, 1, 2, 7)] == [output(0), output(1), output(2), output(7)]
    assert notes == [f"outputs are not kept: {home}/cache.db: another process keeps it locked"]
    assert found(home, range(10)) == [0, 1, 2, 7]


def test_a_file_that_somebody_wants_for_himself(home: Path) -> None:
    """Where nobody else may read, calls are made and hardly held up; the cache is used again when that is over."""
    fill(home, range(3))
    other = sqlite3.connect(home / "cache.db", isolation_level=None)
    notes: list[str] = []
    try:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        with opened(home, notes) as cache:
            assert [cache.get(key(1)) for _ in range(10_000)] == [None] * 10_000
            other.close()
            wait_until(lambda: cache.get(key(1)) == output(1))
    finally:
        other.close()
    assert notes == [f"the cache is not used: {home}/cache.db: another process keeps it locked"]


def test_a_file_that_stays_locked_holds_up_nobody(home: Path) -> None:
    """The execution ends, and people know that outputs were lost."""
    fill(home, range(1))
    notes: list[str] = []
    with locked(home), opened(home, notes, busy_seconds=0.01) as cache:
        cache.put(key(7), output(7), "classify", "f1")
    assert len(notes) == 1
    assert found(home, range(10)) == [0]


def test_a_home_that_cannot_be(tmp_path: Path) -> None:
    """Where no file can be made, calls are made."""
    (tmp_path / "home").write_text("a file")
    notes: list[str] = []
    with opened(tmp_path / "home", notes, interval_seconds=0.01) as cache:
        for number in range(3):
            assert cache.get(key(number)) is None
            cache.put(key(number), output(number), "classify", "f1")
    assert len(notes) == 1 and notes[0].startswith(f"outputs are not kept: {tmp_path}/home/cache.db: ")


_FULL = """
import resource, sys
from hashlib import blake2b
from pathlib import Path
from batchrun.store import Cache

notes, home = [], Path(sys.argv[1])
cache = Cache("triage", notes.append, home, interval_seconds=0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for number in range(100, 400):
    cache.put(blake2b(b"%d" % number, digest_size=20).digest(), b'{"n":%d,"text":"%s"}' % (number, b"x" * 5_000), "classify", "f1")
    assert cache.get(blake2b(b"%d" % (number % 3), digest_size=20).digest()) is not None
cache.close()
print(len(notes), *notes)
"""


def test_a_disk_without_room(home: Path) -> None:
    """What is there is still used, the file stays sound, and people are told once to make room."""
    fill(home, range(3), size=5_000)
    full = start(_FULL, home)
    out, err = full.communicate(timeout=PATIENCE_SECONDS)
    assert err == ""
    assert out.startswith("1 outputs are not kept: ") and "free space" in out
    assert found(home, range(3), size=5_000) == [0, 1, 2]
    fill(home, range(3, 5), size=5_000)
    assert found(home, range(5), size=5_000) == [0, 1, 2, 3, 4]


def test_a_file_that_is_deleted_meanwhile_is_made_anew(home: Path) -> None:
    """Clearing the cache is deleting its file, whoever uses it at the moment."""
    fill(home, range(10))
    with opened(home, interval_seconds=0.01) as cache:
        cache.put(key(10), output(10), "classify", "f1")
        wait_until(lambda: found(home, range(11)) == list(range(11)))
        assert cache.get(key(1)) == output(1)
        (home / "cache.db").unlink()
        cache.put(key(20), output(20), "classify", "f1")
        wait_until(lambda: (home / "cache.db").exists() and cache.get(key(1)) is None)
        cache.put(key(21), output(21), "classify", "f1")
    assert found(home, range(30)) == [20, 21]
