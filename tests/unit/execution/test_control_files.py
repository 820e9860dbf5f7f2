"""Requests as files in the folder of an execution."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import ExecutionError
from batchrun.execution.control import clear, send, take

PAUSE = {"kind": "pause", "by": "me", "at": "2026-11-01T09:30:00+00:00", "settings": []}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def put(folder: Path, name: str, content: Any) -> Path:
    path = folder / "control" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "control").iterdir())


def test_requests_come_as_they_were_sent_and_only_once(tmp_path: Path) -> None:
    """None gets lost, none is done twice, and the last word of two that differ is the later one."""
    before = datetime.now(UTC)
    sent = [
        send(tmp_path, "tune", {"run.parallelism": 4, "resources.api.max_concurrency": None}),
        send(tmp_path, "tune", ["run.parallelism=2"]),
        send(tmp_path, "tune", "run.parallelism=3"),
        *(send(tmp_path, "pause") for _ in range(20)),
        send(tmp_path, "cancel"),
    ]
    taken = take(tmp_path)
    assert [(request.kind, request.by, request.at) for request in taken] == [(request.kind, request.by, request.at) for request in sent]
    assert [request.settings for request in taken[:4]] == [
        {"run.parallelism": 4, "resources.api.max_concurrency": None},
        ["run.parallelism=2"],
        ["run.parallelism=3"],
        [],
    ]
    assert taken[0].by == f"process {os.getpid()} on {os.uname().nodename}"
    assert before <= taken[0].at <= taken[-1].at <= datetime.now(UTC)
    assert (take(tmp_path), left(tmp_path)) == ([], [])


def test_only_their_owner_reads_them(tmp_path: Path) -> None:
    """New values of a job are nobody else's business."""
    send(tmp_path, "pause")
    assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b'{"kind": "cancel"',
        b"[" * 100_000,
        None,
        "cancel",
        ["cancel"],
        {},
        {"kind": "cancel"},
        {**PAUSE, "kind": "end"},
        {**PAUSE, "kind": ["cancel"]},
        {**PAUSE, "kind": None},
        {**PAUSE, "by": 3},
        {**PAUSE, "at": "soon"},
        {**PAUSE, "at": 3},
        {**PAUSE, "at": "0001-01-01T00:00:00+14:00"},
        {**PAUSE, "settings": None},
        {**PAUSE, "settings": 3},
        {**PAUSE, "settings": "run.parallelism=3"},
        {**PAUSE, "settings": [3]},
    ],
)
def test_what_is_no_request_is_removed_and_does_nothing(tmp_path: Path, content: Any) -> None:
    """Nobody's mistake may cancel an execution, or keep others from reaching it."""
    put(tmp_path, "0.json", content)
    put(tmp_path, "1.json", PAUSE)
    put(tmp_path, "notes", content)
    assert [request.kind for request in take(tmp_path)] == ["pause"]
    assert left(tmp_path) == []


@given(JSON)
def test_no_content_is_taken_for_a_request_that_it_is_not(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    """Whatever JSON there is: nothing is raised, and nothing is asked that was not."""
    folder = tmp_path_factory.mktemp("any")
    for name, changed in {"0.json": content, **{f"{key}.json": {**PAUSE, key: content} for key in PAUSE}}.items():
        put(folder, name, changed)
    assert {request.kind for request in take(folder)} <= {"pause"}
    assert left(folder) == []


def test_files_that_cannot_be_read_hold_nothing_up(tmp_path: Path) -> None:
    """A pipe nobody writes to, an endless device, a huge file, a folder: the one who looks goes on at once."""
    control = tmp_path / "control"
    control.mkdir()
    os.mkfifo(control / "0.json")
    (control / "1.json").symlink_to("/dev/zero")
    (control / "2.json").symlink_to("nowhere")
    (control / "3.json").mkdir()
    with (control / "4.json").open("wb") as huge:
        huge.truncate(2**40)
    send(tmp_path, "pause")
    assert [request.kind for request in take(tmp_path)] == ["pause"]
    assert left(tmp_path) == ["3.json"]
    assert Path("/dev/zero").exists()


def test_a_request_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    """Taking half a request, or its file away from under its writer, would lose it."""
    send(tmp_path, "pause")
    (whole,) = (tmp_path / "control").iterdir()
    hidden = whole.rename(whole.with_name(f".{whole.name}.tmp"))
    assert (take(tmp_path), hidden.exists()) == ([], True)
    clear(tmp_path)
    hidden.rename(whole)
    assert len(take(tmp_path)) == 1


def test_requests_are_forgotten(tmp_path: Path) -> None:
    """What a process was asked that is gone says nothing to the next one."""
    clear(tmp_path)
    send(tmp_path, "cancel")
    put(tmp_path, "notes", b"")
    clear(tmp_path)
    assert (take(tmp_path), left(tmp_path)) == ([], [])


def test_where_nothing_was_ever_sent_there_is_nothing(tmp_path: Path) -> None:
    """Looking leaves no trace, and needs no folder."""
    assert take(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "control").write_text("a file")
    assert take(tmp_path) == take(tmp_path / "nowhere") == []


def test_a_request_that_cannot_be_sent_says_so(tmp_path: Path) -> None:
    """Who asks must not believe that he was heard."""
    with pytest.raises(ExecutionError, match=r"cannot write .*control: the folder is gone"):
        send(tmp_path / "nowhere", "pause")
    (tmp_path / "control").write_text("a file")
    with pytest.raises(ExecutionError, match="cannot write"):
        send(tmp_path, "pause")
