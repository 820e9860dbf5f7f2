"""Results in the hands of people: opened again, beside their source, compared, and copied for other tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import polars as pl
import pytest

import batchrun
from batchrun import Dataset, Execution, Export, Job, JobError, Output

ROOT = Path(__file__).parents[2]
ROWS = {"id": ["a", "b", "c", "d"], "n": [1, 2, 3, 4], "language": ["en", "de", None, "en"], "status": ["x"] * 4}


class Scored(TypedDict):
    label: str
    score: float


def scored(item: dict[str, int]) -> Scored:
    if item["n"] == 3:
        raise ZeroDivisionError("three")
    return {"label": "even" if item["n"] % 2 == 0 else "odd", "score": item["n"] / 2}


def scored_otherwise(item: dict[str, int]) -> Scored:
    return {"label": "even" if item["n"] % 2 == 0 else "odd", "score": 0.5 if item["n"] == 4 else item["n"] / 2}


def run(path: Path, function: object = scored, *, filter: str | None = "n > 1", **output: object) -> Execution:  # noqa: A002 - as in the job
    job = Job(
        dataset=Dataset(path=str(path), id="id", filter=filter),
        workflow=function,  # type: ignore[arg-type]
        output=Output(path=str(path.parent / "runs"), **output),  # type: ignore[arg-type]
    )
    return batchrun.execute(job, quiet=True)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "batchrun", *arguments]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=250, check=False)


@pytest.fixture(params=["csv", "parquet", "folder"])
def data(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rows, in one of the forms that are read in different ways."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    frame = pl.DataFrame(ROWS)
    if request.param == "csv":
        frame.write_csv(tmp_path / "rows.csv")
    elif request.param == "parquet":
        frame.write_parquet(tmp_path / "rows.parquet", row_group_size=2)
    else:
        (tmp_path / "rows").mkdir()
        frame[:2].write_parquet(tmp_path / "rows/one.parquet")
        frame[2:].write_parquet(tmp_path / "rows/two.parquet")
        return tmp_path / "rows"
    return tmp_path / f"rows.{request.param}"


def test_a_result_is_read_beside_its_source(data: Path) -> None:
    """Every item has the columns of its own row, whatever the filter left out, and reads only the columns that are asked for."""
    execution = batchrun.open(run(data, flatten=True, keep=("language",)).folder)
    frame = execution.results_frame(with_source=True)
    assert frame.collect_schema().names()[-4:] == ["language", "id", "n", "source_status"]
    wanted = frame.filter(pl.col("n") > 2).select("source_status", "status", "n", "source_item_id", "label")
    assert wanted.collect().rows() == [("x", "failed", 3, "c", None), ("x", "completed", 4, "d", "even")]
    assert frame.head(1).collect()["id"].to_list() == ["b"]
    assert frame.group_by("language").len().sort("language").collect()["len"].to_list() == [1, 1, 1]

    shown = command(data.parent, "results", "latest", "--with-source", "--filter", "n = 3", "--json")
    (row,) = map(json.loads, shown.stdout.splitlines())
    assert (row["source_item_id"], row["n"], row["id"], row["error"]["type"], row["language"]) == ("c", 3, "c", "ZeroDivisionError", None)
    copied = command(data.parent, "results", "--with-source", "--export", "parquet", "--partition-by", "n", "--to", "copies")
    assert (copied.returncode, copied.stdout.strip()) == (0, "copies/partitions")
    assert sorted(path.name for path in (data.parent / "copies/partitions").iterdir()) == ["n=2", "n=3", "n=4"]


def test_a_changed_source_is_refused_by_the_names_of_its_files(data: Path) -> None:
    """Rows of another version beside results would look right and be wrong; the result itself stays readable."""
    execution = run(data)
    changed = data / "two.parquet" if data.is_dir() else data
    if changed.suffix == ".csv":
        changed.write_text(changed.read_text().replace("en", "fr"))
    else:
        pl.DataFrame(ROWS)[:2].reverse().write_parquet(changed)
    with pytest.raises(JobError, match=rf"dataset version changed on disk: .* {changed.name} has other content; put the files back"):
        execution.results_frame(with_source=True)
    refused = command(data.parent, "results", "--with-source")
    assert refused.returncode == 2
    assert f"{changed.name} has other content" in refused.stderr
    assert execution.results_frame().collect().height == 3


def test_a_named_version_is_refused_in_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in managed storage stays beside its results, whatever becomes of the files it was made of."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path / "home"))
    pl.DataFrame(ROWS).write_parquet(tmp_path / "rows.parquet")
    client = batchrun.Client()
    for name, copy in (("kept", True), ("seen", False)):
        client.datasets.add(name, tmp_path / "rows.parquet", copy=copy)
    kept, seen = (
        batchrun.execute(Job(dataset=f"{name}@1", workflow=scored, output=Output(path=str(tmp_path))), quiet=True)
        for name in ("kept", "seen")
    )
    pl.DataFrame(ROWS).reverse().write_parquet(tmp_path / "rows.parquet")
    assert kept.results_frame(with_source=True).collect()["id"].to_list() == ROWS["id"]
    with pytest.raises(JobError, match=r"dataset version changed on disk: seen@1: rows\.parquet"):
        seen.results_frame(with_source=True)


def test_two_executions_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change, people see what it did to which items; programs get every one of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pl.DataFrame(ROWS).write_parquet(tmp_path / "rows.parquet")
    before, after = run(tmp_path / "rows.parquet"), run(tmp_path / "rows.parquet", scored_otherwise, filter=None)
    diff = batchrun.diff(before.id, after)
    assert (diff.counts.changed_items, diff.counts.added_items, diff.counts.unchanged_items) == (2, 1, 1)
    assert dict(zip(diff.table["source_item_id"].to_pylist(), diff.table["changed"].to_pylist(), strict=True)) == {
        "a": [],
        "c": ["status"],
        "d": ["output.score"],
    }
    shown = command(tmp_path, "diff", before.id)
    assert shown.returncode == 0
    assert [line.split()[:3] for line in shown.stdout.splitlines()[1:]] == [
        ["a", "added", "-"],
        ["c", "status", "failed:"],
        ["d", "output.score", "2.0"],
    ]
    assert "2 items changed, 1 unchanged, 1 only in the later one, 0 only in the earlier one" in shown.stderr
    assert "changed: status in 1, output.score in 1\nstatuses: failed → completed 1" in shown.stderr
    lines = [json.loads(line) for line in command(tmp_path, "diff", before.id, "latest", "--json", "--head", "1").stdout.splitlines()]
    assert [(line["change"], line["output_after"]["score"]) for line in lines] == [("added", 0.5), ("changed", 1.5), ("changed", 0.5)]
    assert command(tmp_path, "diff", "nothing").returncode == 1


def test_copies_are_written_again_after_a_retry(tmp_path: Path) -> None:
    """Columns and copies that a job asks for are those of the last run."""
    pl.DataFrame(ROWS).write_parquet(tmp_path / "rows.parquet")
    execution = run(tmp_path / "rows.parquet", flatten=True, export=("ndjson", Export(type="parquet", partition_by=("status", "label"))))
    assert {path.name for path in (execution.folder / "partitions").iterdir()} == {"status=completed", "status=failed"}
    again = batchrun.retry(
        execution.folder, overrides={"workflow.nodes[0].call": f"{__name__}:scored_otherwise"}, accept_changes=True, quiet=True
    )
    assert again is not None
    assert {path.name for path in (execution.folder / "partitions").iterdir()} == {"status=completed"}
    assert again.results["label"].to_pylist() == ["even", "odd", "even"]
    assert '"label":"odd"' in (execution.folder / "results.ndjson").read_text()


def test_a_retry_is_chosen_by_the_columns_that_the_result_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by those that are fields of the output: of an item that failed they are null."""
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(ROWS).write_parquet(tmp_path / "rows.parquet")
    execution = run(tmp_path / "rows.parquet", flatten=True)
    assert batchrun.retry(execution.folder, "label = 'even' OR score > 0", quiet=True) is None
    again = batchrun.retry(execution.folder, "label IS NULL AND score IS NULL", quiet=True)
    assert again is not None and again.results["attempts"].to_pylist() == [1, 6, 1]
    with pytest.raises(JobError, match='unknown column "lable"; did you mean "label"'):
        batchrun.retry(execution.folder, "lable IS NULL", quiet=True)


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (
            {"flatten": True, "keep": ["label"]},
            'output.flatten: the field "label" of the output and the kept column "label" would have the same',
        ),
        ({"export": [{"type": "parquet"}]}, "output.export[0].partition_by: is missing; name the columns, such as [status]"),
        (
            {"export": [{"type": "parquet", "partition_by": ["score"]}]},
            'output.export[0].partition_by[0]: "score" is neither a kept column',
        ),
        (
            {"flatten": True, "export": [{"type": "parquet", "partition_by": ["score"]}]},
            'output.export[0].partition_by[0]: "score" is of type float64',
        ),
        ({"export": ["csv", {"type": "csv"}]}, "output.export: has csv twice"),
        (
            {"export": [{"type": "csv", "partition_by": ["status"]}]},
            "output.export[0].partition_by: belongs to exports of type parquet, not csv",
        ),
        ({"export": [{"type": "arrow", "escape_formulas": True}]}, "output.export[0].escape_formulas: belongs to exports of type csv"),
    ],
    ids=range(7),
)
def test_what_cannot_be_written_is_refused_before_the_first_item(tmp_path: Path, output: dict[str, object], problem: str) -> None:
    """Nobody finds out after hours of work that the result cannot have the columns that were asked for."""
    pl.DataFrame(ROWS).rename({"language": "label"}).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(JobError) as caught:
        batchrun.execute({"dataset": str(tmp_path / "rows.parquet"), "workflow": f"{__name__}:scored", "output": output}, quiet=True)  # type: ignore[arg-type]
    assert problem in str(caught.value)


def test_only_fields_can_be_columns(tmp_path: Path) -> None:
    """JSON text has no fields that are the same in every row; a field called like a column of the result has no place."""
    pl.DataFrame(ROWS).write_parquet(tmp_path / "rows.parquet")
    job = {"dataset": str(tmp_path / "rows.parquet"), "workflow": {"nodes": [{"id": "s", "type": "python", "call": f"{__name__}:scored"}]}}
    job["workflow"] |= {"output": {"error": "{{ nodes.s.output.label }}"}}  # type: ignore[operator]
    with pytest.raises(JobError, match=r"needs an output with named fields, but it is JSON text; give workflow\.output_schema"):
        batchrun.execute({**job, "output": {"flatten": True}}, quiet=True)  # type: ignore[arg-type]
    job["workflow"] |= {"output_schema": {"error": "string"}}  # type: ignore[operator]
    with pytest.raises(JobError, match='"error" of the output would have the name of the result\'s own column "error"'):
        batchrun.execute({**job, "output": {"flatten": True}}, quiet=True)  # type: ignore[arg-type]
