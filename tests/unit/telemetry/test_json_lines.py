"""events.jsonl."""

from __future__ import annotations

import json
import resource
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from batchrun.core.errors import ErrorRecord
from batchrun.core.events import ItemEnded, NodeEnded
from batchrun.core.items import Usage
from batchrun.telemetry.json_lines import JsonLines

AT = datetime(2026, 11, 1, 9, 30, 0, 250_000, tzinfo=UTC)
ERROR = ErrorRecord("ValueError", 'no "quotes" \n here', "ask", retryable=False, http_status=None, traceback=None)


def ended(id: object = "a") -> ItemEnded:
    return ItemEnded(
        execution_id="one",
        at=AT,
        item_index=3,
        source_item_id=id,
        status="failed",
        attempts=2,
        started_at=None,
        duration_ms=1.5,
        error=ERROR,
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_one_object_on_one_line(tmp_path: Path) -> None:
    """Programs read the log line by line: names, times in UTC, nested errors and usage."""
    log = JsonLines(tmp_path / "events.jsonl")
    node = NodeEnded(
        execution_id="one",
        at=AT,
        item_index=3,
        source_item_id=7,
        node_id="ask",
        node_type="python",
        occurrence=0,
        status="failed",
        attempts=2,
        started_at=AT,
        duration_ms=0.25,
        cache_hit=False,
        usage=Usage(3, 4, 0.5),
        error=ERROR,
    )
    log.take([node, ended(date(2026, 11, 1))])
    log.close()
    first, second = lines(tmp_path / "events.jsonl")
    assert list(first)[:3] == ["event", "execution_id", "at"]
    assert (first["event"], first["at"], first["source_item_id"]) == ("node_ended", "2026-11-01T09:30:00.250000+00:00", 7)
    assert first["usage"] == {"input_tokens": 3, "output_tokens": 4, "cost": 0.5}
    assert first["error"] == ERROR._asdict()
    assert (second["event"], second["source_item_id"], second["started_at"]) == ("item_ended", "2026-11-01", None)
    assert stat.S_IMODE((tmp_path / "events.jsonl").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "left", [b'{"event": "cut o', b'{"a": 1}\n{"event": "cut o', b'{"a": 1}\n', b"x" * 200_000, b'{"a": 1}\n' + b"x" * 200_000]
)
def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path: Path, left: bytes) -> None:
    """After a crash and a resume, every line of the log can still be read."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(left)
    log = JsonLines(path)
    log.take([ended()])
    log.close()
    assert [line.get("event") for line in lines(path)] == ([None] if left.startswith(b'{"a": 1}\n') else []) + ["item_ended"]


@contextmanager
def at_most(size_bytes: int) -> Iterator[None]:
    """Files can grow to this size, as on a disk that is full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """What could not be written is missing, and nothing before or after it is damaged."""
    path = tmp_path / "events.jsonl"
    log = JsonLines(path)
    log.take([ended("first")])
    with at_most(path.stat().st_size + 100), pytest.raises(OSError, match="large"):
        log.take([ended("second")])
    log.take([ended("third")])
    log.close()
    assert [line["source_item_id"] for line in lines(path)] == ["first", "third"]
