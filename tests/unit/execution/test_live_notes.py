"""What an execution tells people before and after there is a display, and what it leaves behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import batchrun
from batchrun import Dataset
from batchrun.execution.live import Live


def made(folder: Path, *, quiet: bool = False) -> Live:
    return Live(folder, "job", quiet=quiet, on_request=print)


def test_what_is_told_before_the_first_item_is_shown_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An execution that breaks before there is a display still says what was wrong on the way."""
    live = made(tmp_path)
    live.note("the list cannot be written")
    assert capsys.readouterr().err == ""
    live.end()
    live.note("and nothing gets lost after it")
    assert capsys.readouterr().err == "the list cannot be written\nand nothing gets lost after it\n"


def test_who_wants_it_quiet_is_told_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Quiet is quiet, whatever happens."""
    live = made(tmp_path, quiet=True)
    live.note("the list cannot be written")
    live.end()
    assert capsys.readouterr() == ("", "")


def test_notes_of_many_threads_are_all_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trouble is told from the thread of the store while others show theirs."""
    live, together = made(tmp_path), threading.Barrier(9)

    def tell(number: int) -> None:
        together.wait()
        for line in range(100):
            live.note(f"{number} {line}")

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    together.wait()
    live.end()
    for thread in threads:
        thread.join()
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(f"{number} {line}" for number in range(8) for line in range(100))


def test_a_refused_execution_leaves_no_thread_and_no_line_in_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that runs a thousand jobs, some of them refused, does not pile up heartbeats."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.csv").write_text("id\n1\n1\n")
    with pytest.raises(batchrun.JobError, match="id"):
        batchrun.map(lambda item: item, Dataset(path="data.csv", id="id"))
    assert [thread.name for thread in threading.enumerate() if thread.name == "batchrun-heartbeat"] == []
    assert not (tmp_path / "home").exists()
