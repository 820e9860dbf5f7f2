"""Which files of an execution are for others."""

from __future__ import annotations

from pathlib import Path

from batchrun.results.published import published_files


def test_files_for_others_are_chosen_by_name(tmp_path: Path) -> None:
    """What a process had to say, what it goes on from and what is unfinished stays on the machine."""
    chosen = ["results.parquet", "removed.parquet", "partitions/a=1/part-0.parquet", "delta/_delta_log/0.json", "files/ab/abcd"]
    others = ["journal/000001.journal", "control/a.json", "process.log", "inputs.parquet", ".results.csv.tmp", "files/.unfinished-1", "own"]
    for name in (*chosen, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert sorted(published_files(tmp_path)) == sorted(chosen)


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    """Folders that an execution has not made are no trouble."""
    assert published_files(tmp_path) == {}
