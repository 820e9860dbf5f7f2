"""Folders whose files are the items: which files those are, and what is known of them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.formats import FilesFormat
from batchrun.core.job import Dataset
from batchrun.datasets import Loaded, open_source
from tests.unit.datasets.conftest import Load, Refusal


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder as people leave it."""
    folder = tmp_path / "inbox"
    (folder / "b/deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("z.PDF", "a.txt", "b/deep/c.pdf", "b/odd\n🎉.pdf", ".hidden.pdf", ".git/config", "_part.txt", "none", "a=1.csv"):
        (folder / name).write_text("x" * len(name))
    (folder / "out.txt").symlink_to(Path(__file__))
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "inside.txt").symlink_to("a.txt")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    os.utime(folder / "a.txt", (0, 1_700_000_000))
    return folder


def names(loaded: Loaded) -> list[str]:
    return [item.data["relative_path"] for window in loaded.windows() for item in window]


@pytest.mark.parametrize(
    ("path", "options", "expected"),
    [
        ("inbox", {}, ["_part.txt", "a.txt", "a=1.csv", "b/deep/c.pdf", "b/odd\n🎉.pdf", "inside.txt", "none", "z.PDF"]),
        ("inbox/", {"filter": "suffix = '.pdf'"}, ["b/deep/c.pdf", "b/odd\n🎉.pdf", "z.PDF"]),
        ("inbox/**/*.pdf", {}, ["b/deep/c.pdf", "b/odd\n🎉.pdf"]),
        ("inbox/b/*", {}, ["odd\n🎉.pdf"]),
        ("inbox/a.txt", {}, ["a.txt"]),
        ("inbox", {"files": FilesFormat(include=("*.pdf", "b/**"))}, ["b/deep/c.pdf", "b/odd\n🎉.pdf"]),
        ("inbox", {"files": FilesFormat(include=("*.pdf", "**/config"), hidden=True), "limit": 2}, [".git/config", ".hidden.pdf"]),
        ("inbox", {"files": FilesFormat(include=("*.docx",))}, []),
    ],
)
def test_the_files_that_are_meant_are_the_items(inbox: Path, load: Load, path: str, options: dict[str, Any], expected: list[str]) -> None:
    """Sorted by path; links never lead out of the folder, and what is no file is no item."""
    assert names(load(path, format="files", **options)) == expected


def test_an_item_tells_what_is_known_of_its_file(inbox: Path, load: Load) -> None:
    """The path can be opened from anywhere."""
    items = {item.data["relative_path"]: item.data for window in load("inbox", format="files").windows() for item in window}
    assert items["a.txt"] == {
        "path": str(inbox / "a.txt"),
        "relative_path": "a.txt",
        "name": "a.txt",
        "suffix": ".txt",
        "size_bytes": 5,
        "modified_at": datetime.fromtimestamp(1_700_000_000, UTC),
    }
    assert items["z.PDF"]["suffix"] == ".pdf"
    assert Path(items["b/odd\n🎉.pdf"]["path"]).read_text() == "x" * 11


def test_names_that_are_no_text_are_refused(inbox: Path, refusal: Refusal) -> None:
    """A column of text cannot hold them, and a name that was changed could not be opened."""
    Path(os.fsdecode(os.fsencode(inbox) + b"/\xff.bin")).write_text("x")
    assert r"a name is not UTF-8" in (message := refusal("inbox", format="files"))
    assert r"\xff.bin" in message


def test_a_folder_that_is_not_there_is_refused(refusal: Refusal) -> None:
    """An inbox that was mistyped is not an empty one."""
    assert "inbox does not exist" in refusal("inbox", format="files")
    assert "inbox does not exist" in refusal("inbox/*.pdf", format="files")
    assert "is an address" in refusal("s3://bucket/inbox", format="files")


def test_an_empty_folder_has_no_items(tmp_path: Path, load: Load) -> None:
    """A job under cron ends at once when nothing came in."""
    (tmp_path / "inbox").mkdir()
    assert load("inbox", format="files").total_items == 0


@pytest.mark.parametrize("digests", [False, True])
def test_a_change_of_a_file_is_seen_in_the_fingerprint(inbox: Path, digests: bool) -> None:
    """By size and time, or by the bytes alone."""

    def fingerprint() -> str:
        return open_source(Dataset(path="inbox", format="files", files=FilesFormat(digests=digests)), inbox.parent).fingerprint

    before = fingerprint()
    assert fingerprint() == before
    os.utime(inbox / "z.PDF", (0, 1))
    assert (fingerprint() == before) is digests
    os.utime(inbox / "a.txt", (0, 1_700_000_000))
    (inbox / "z.PDF").write_text("other")
    assert fingerprint() != before
