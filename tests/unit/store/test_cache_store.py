"""The cache of outputs: what is kept, for how long, and who shares it."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchrun.store import Cache
from tests.unit.store.caches import PATIENCE_SECONDS, fill, found, key, opened, output, start


def test_what_is_kept_is_found_by_later_executions(home: Path) -> None:
    """An output comes back byte by byte, null included, for its key and for no other."""
    with opened(home) as cache:
        cache.put(key(1), b"null", "classify", "f1")
        cache.put(key(2), output(2, 100_000), "classify", "f1")
    with opened(home) as cache:
        assert [cache.get(key(number)) for number in range(4)] == [None, b"null", output(2, 100_000), None]
        cache.put(key(1), b"1", "classify", "f1")
        assert cache.get(key(1)) == b"1"
    with opened(home) as cache:
        assert cache.get(key(1)) == b"1"


def test_what_was_handed_over_is_found_before_it_is_written(home: Path) -> None:
    """An item may hit what another one has just given, however slow the disk is."""
    with opened(home, interval_seconds=3600) as cache:
        cache.put(key(1), output(1), "classify", "f1")
        assert cache.get(key(1)) == output(1)
        assert not home.exists()


def test_looking_leaves_nothing_behind(home: Path) -> None:
    """The first output that is kept makes the file, and others on the machine cannot read it."""
    assert found(home, range(3)) == []
    assert not home.exists()
    fill(home, range(1))
    assert [path.name for path in home.iterdir()] == ["cache.db"]
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "cache.db").stat().st_mode) == 0o600


def test_the_home_is_that_of_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache lies beside the list of executions; a change of folder does not split it."""
    monkeypatch.setenv("BATCHRUN_HOME", "here")
    monkeypatch.chdir(tmp_path)
    cache = Cache("triage", print)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cache.put(key(1), output(1), "classify", "f1")
    cache.close()
    assert found(tmp_path / "here", range(3)) == [1]


_WRITER = """
import sys
from hashlib import blake2b
from pathlib import Path
from batchrun.store import Cache

home, writer = Path(sys.argv[1]), int(sys.argv[2])
notes = []
sys.stdin.readline()
for round in range(5):
    cache = Cache("triage", notes.append, home, interval_seconds=0.01)
    for number in range(round * 400 + writer, round * 400 + 400, 4):
        cache.put(blake2b(b"%d" % number, digest_size=20).digest(), b'{"n":%d,"text":""}' % number, "classify", "f1")
        for other in range(number - 8, number):
            found = cache.get(blake2b(b"%d" % other, digest_size=20).digest())
            assert found in (None, b'{"n":%d,"text":""}' % other), found
    cache.close()
# Who reads at the moment at which another process opens or closes the file does not wait for it long, and makes the call.
print([note for note in notes if not note.startswith("the cache is not used") or "another process keeps it locked" not in note])
"""


def test_many_processes_share_it(home: Path) -> None:
    """Executions that begin at the same moment make, read and write the one file, and nothing gets lost."""
    writers = [start(_WRITER, home, number) for number in range(4)]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    ended = [writer.communicate(timeout=PATIENCE_SECONDS) for writer in writers]
    assert ended == [("[]\n", "")] * 4
    assert found(home, range(2_000)) == list(range(2_000))


_KILLED = """
import os, signal, sqlite3, sys
from hashlib import blake2b
from pathlib import Path
from batchrun.store import Cache

home = Path(sys.argv[1])
cache = Cache("triage", print, home, interval_seconds=0.01)
number = written = 0
while written < 3_000:
    for number in range(number, min(number + 500, 20_000)):
        cache.put(blake2b(b"%d" % number, digest_size=20).digest(), b'{"n":%d,"text":""}' % number, "classify", "f1")
    if (home / "cache.db").exists():
        other = sqlite3.connect(home / "cache.db")
        written = other.execute("SELECT count(*) FROM entries").fetchone()[0]
        other.close()
print(written, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_what_it_has_written(home: Path) -> None:
    """A kill in the middle of writing costs the last moments, leaves the file sound, and not locked."""
    killed = start(_KILLED, home)
    out, err = killed.communicate(timeout=PATIENCE_SECONDS)
    assert (killed.returncode, err) == (-9, "")
    kept = found(home, range(20_000))
    assert len(kept) >= int(out) >= 3_000
    assert kept == list(range(len(kept)))
    fill(home, range(20_000, 20_010))
    assert found(home, range(20_000, 20_020)) == list(range(20_000, 20_010))


def test_threads_share_it(home: Path) -> None:
    """Lanes and the event loop use it at once; each finds what any of them has given."""
    fill(home, range(1_000))
    missed: list[int] = []

    def work(cache: Cache, first: int) -> None:
        for number in range(first, 1_000, 3):
            cache.put(key(10_000 + number), output(10_000 + number), "classify", "f1")
            missed.extend(each for each in (number, 10_000 + number) if cache.get(key(each)) != output(each))

    with opened(home, interval_seconds=0.001) as cache:
        threads = [threading.Thread(target=work, args=(cache, first % 3)) for first in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert missed == []
    assert found(home, range(10_000, 11_000)) == list(range(10_000, 11_000))


def test_it_is_over_when_it_is_closed(home: Path) -> None:
    """A thread that nobody waits for any more may still ask and hand over; it does no harm."""
    fill(home, range(1))
    with opened(home) as cache:
        assert cache.get(key(0)) == output(0)
    assert cache.get(key(0)) is None
    cache.put(key(1), output(1), "classify", "f1")
    assert found(home, range(2)) == [0]
    cache.close()
    assert [path for path in Path("/proc/self/fd").glob("*") if path.exists() and "cache.db" in path.readlink().name] == []


def test_what_was_not_used_for_longest_goes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file never grows beyond its bound; what is in use stays in it, however old it is."""
    monkeypatch.setenv("BATCHRUN_CACHE_MAX_BYTES", "1000000")
    fill(home, range(600), size=900)
    assert found(home, range(600), size=900) == list(range(600))
    for first in range(600, 1_200, 50):
        assert found(home, range(50), size=900) == list(range(50))
        fill(home, range(first, first + 50), size=900)
        assert (home / "cache.db").stat().st_size <= 1_000_000
    kept = found(home, range(50, 1_200), size=900)
    assert kept == list(range(kept[0], 1_200))
    assert len(kept) > 600


def test_a_lower_bound_makes_the_file_smaller(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who needs the space gets it back with the next execution."""
    fill(home, range(1_000), size=2_000)
    assert (home / "cache.db").stat().st_size > 2_000_000
    monkeypatch.setenv("BATCHRUN_CACHE_MAX_BYTES", "200000")
    fill(home, range(1_000, 1_001), size=2_000)
    assert (home / "cache.db").stat().st_size <= 200_000
    assert 1_000 in found(home, range(1_001), size=2_000)


def test_an_output_that_is_too_large_is_not_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One giant does not drive out all others; people are told once."""
    monkeypatch.setenv("BATCHRUN_CACHE_MAX_BYTES", "1000000")
    notes: list[str] = []
    with opened(home, notes) as cache:
        for number in range(3):
            cache.put(key(number), output(number, 250_001), "classify", "f1")
            cache.put(key(10 + number), output(10 + number), "classify", "f1")
    assert notes == ["node classify: an output of 250,018 bytes is too large for a cache of 1,000,000"]
    assert found(home, range(20)) == [10, 11, 12]


def test_a_bound_of_zero_does_without(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants no cache has none, and what others have kept in it stays as it is."""
    fill(home, range(3))
    before = (home / "cache.db").read_bytes()
    monkeypatch.setenv("BATCHRUN_CACHE_MAX_BYTES", "0")
    fill(home, range(3, 6))
    assert found(home, range(6)) == []
    assert (home / "cache.db").read_bytes() == before
    monkeypatch.delenv("BATCHRUN_CACHE_MAX_BYTES")
    assert found(home, range(6)) == [0, 1, 2]


@pytest.mark.parametrize("bound", ["2 GiB", "-1", "1e9", "٣"])
def test_a_bound_that_is_none_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """A typing mistake neither ends the execution nor goes unnoticed."""
    monkeypatch.setenv("BATCHRUN_CACHE_MAX_BYTES", bound)
    notes: list[str] = []
    with opened(home, notes) as cache:
        cache.put(key(1), output(1), "classify", "f1")
    assert notes == [f"BATCHRUN_CACHE_MAX_BYTES must be a number of bytes such as 2147483648, got {bound!r}: the cache takes 2147483648"]


def test_it_knows_when_a_node_has_changed(home: Path) -> None:
    """People learn why nothing was found: the node was another one when its outputs were kept."""
    before = datetime.now(UTC)
    with opened(home) as cache:
        assert cache.changed_since("classify", "f1") is None
        cache.put(key(1), output(1), "classify", "f1")
    with opened(home) as cache:
        assert cache.changed_since("classify", "f1") is None
        since = cache.changed_since("classify", "f2")
        assert since is not None and before <= since <= datetime.now(UTC)
        assert cache.changed_since("clean", "f2") is None
        cache.put(key(2), output(2), "classify", "f2")
    with opened(home) as cache:
        assert [cache.changed_since("classify", fingerprint) for fingerprint in ("f1", "f2")] == [None, None]
        later = cache.changed_since("classify", "f3")
        assert later is not None and later > since
    with opened(home, job="another \ud800 job") as cache:
        assert cache.changed_since("classify", "f3") is None
        cache.put(key(3), output(3), "classify", "f1")
    with opened(home, job="another \ud800 job") as cache:
        assert cache.changed_since("classify", "f3") is not None
