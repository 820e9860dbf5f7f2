"""Delta tables and folders of files as datasets of jobs, and results in Delta tables."""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path
from typing import TypedDict

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

import batchrun
from batchrun import Export
from tests.e2e.conftest import Project

ROWS = pl.DataFrame({"id": ["a", "b", "c"], "text": ["one", "bad", "three"], "size": [1, 2, 3]})
FILES_JOB = """\
dataset: {path: inbox, format: files, id: relative_path, files: {include: ["*.txt"]}}
workflow:
  nodes:
    - {id: content, type: file, source: "{{ item.path }}", as: text, allow_paths: [inbox]}
    - {id: tidy, type: python, call: steps:tidy, inputs: {text: "{{ nodes.content.output.content }}"}}
run: {retry: {max_attempts: 1}}
output: {path: runs, keep: [size_bytes]}
"""


class Leg(TypedDict):
    took: timedelta
    at: time


class Timed(TypedDict):
    legs: list[Leg]
    took: timedelta | None


@pytest.fixture
def table(project: Project) -> Path:
    """The job reads a Delta table of one version."""
    write_deltalake(str(project.folder / "table"), ROWS)
    job = (project.folder / "job.yaml").read_text()
    project.write("job.yaml", job.replace("{path: data.csv, id: id}", "{path: table, id: id}"))
    return project.folder / "table"


def append(table: Path, id: str) -> None:
    write_deltalake(str(table), ROWS.head(1).with_columns(id=pl.lit(id)), mode="append")


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    """The status of each row of a table, by execution."""
    found: dict[str, dict[str, str]] = {}
    for row in pl.read_delta(str(folder)).iter_rows(named=True):
        assert row["source_item_id"] not in found.setdefault(row["execution_id"], {})
        found[row["execution_id"]][row["source_item_id"]] = row["status"]
    return found


def test_retry_reads_the_version_the_execution_began_with(project: Project, table: Path) -> None:
    """What is committed meanwhile is for the next execution; a rerun takes it, or the original."""
    assert project.batchrun("run", "job.yaml").code == 3
    record = project.record
    assert (record["dataset_version"], record["dataset_version_wanted"]) == (0, "latest")
    append(table, "d")
    project.write("steps.py", "def tidy(text: str) -> str:\n    return text.upper()\n")
    done = project.batchrun("retry", record["execution_id"], "--accept-changes")
    assert done.code == 0, done.err
    assert project.result["source_item_id"].to_pylist() == ["a", "b", "c"]
    assert project.batchrun("rerun", record["execution_id"]).code == 0
    assert pl.read_parquet(project.executions[1] / "results.parquet").height == 4
    assert project.batchrun("rerun", record["execution_id"], "--dataset-version", "original").code == 0
    assert pl.read_parquet(project.executions[2] / "results.parquet").height == 3


@pytest.mark.parametrize(("version", "rows"), [("0", 3), ("latest", 4), ("1h", None), ("2100-01-01", 4), ("soon", None)])
def test_a_job_says_which_version_it_reads(project: Project, table: Path, version: str, rows: int | None) -> None:
    """A number, latest, or a time; anything else, or a time before the table, is refused in the words of the table."""
    append(table, "d")
    done = project.batchrun("run", "job.yaml", "--set", f'dataset.version="{version}"')
    if rows is None:
        assert done.code == 2 and "dataset.version" in done.err and "table" in done.err, done.err
    else:
        assert project.result.num_rows == rows


def test_a_table_is_a_named_dataset(project: Project, table: Path) -> None:
    """A version of the name is a version of the table."""
    assert project.batchrun("dataset", "add", "rows", "table").out.strip() == "rows@1"
    append(table, "d")
    assert project.batchrun("dataset", "add", "rows", "table").out.strip() == "rows@2"
    assert project.batchrun("dataset", "add", "rows", "table", "--set", "version=0").out.strip() == "rows@3"
    job = (project.folder / "job.yaml").read_text()
    project.write("job.yaml", job.replace("path: table", "name: rows@1"))
    assert project.batchrun("run", "job.yaml").code == 3
    assert project.result["source_item_id"].to_pylist() == ["a", "b", "c"]
    assert "added" in (shown := project.batchrun("dataset", "diff", "rows", "1", "2", "--key", "id")).out, shown.err
    assert "table, version 0" in project.batchrun("dataset", "show", "rows@1").out
    next(table.glob("*.parquet")).unlink()
    gone = project.batchrun("dataset", "diff", "rows", "1", "2", "--key", "id")
    assert gone.code == 1 and "a file cannot be read or is gone" in gone.err and "POLARS_VERBOSE" not in gone.err, gone.err


def test_each_file_of_a_folder_is_an_item(project: Project) -> None:
    """A node reads its bytes; only within the folder that the job allows."""
    (project.folder / "inbox/deep").mkdir(parents=True)
    for name, text in {"b.txt": " two ", "deep/a.txt": "bad", "a.pdf": "no"}.items():
        (project.folder / "inbox" / name).write_text(text)
    project.write("job.yaml", FILES_JOB)
    assert project.batchrun("run", "job.yaml").code == 3
    rows = {row["source_item_id"]: row for row in project.result.to_pylist()}
    assert {name: (row["status"], row["size_bytes"]) for name, row in rows.items()} == {
        "b.txt": ("completed", 5),
        "deep/a.txt": ("failed", 3),
    }
    (project.folder / "inbox/deep/a.txt").write_text("good")
    done = project.batchrun("retry", project.record["execution_id"])
    assert done.code == 2 and "deep/a.txt has other content" in done.err, done.err
    assert project.batchrun("dataset", "add", "inbox", "inbox", "--set", "format=files").out.strip() == "inbox@1"
    (project.folder / "inbox/b.txt").unlink()
    project.write(
        "job.yaml", FILES_JOB.replace('path: inbox, format: files, id: relative_path, files: {include: ["*.txt"]}', "name: inbox")
    )
    done = project.batchrun("run", "job.yaml")
    assert done.code == 2 and "dataset version changed on disk: inbox@1: b.txt is gone" in done.err, done.err


def test_a_result_is_one_commit_of_a_table(project: Project) -> None:
    """Executions are side by side in it; a retry takes the place of the rows that were there, in one commit."""
    job = (
        (project.folder / "job.yaml").read_text().replace("keep: [size]", "keep: [size], export: [{type: delta, path: ../tables/results}]")
    )
    (project.folder / "jobs").mkdir()
    project.write("jobs/job.yaml", job.replace("path: data.csv", "path: ../data.csv").replace("path: runs", "path: ../runs"))
    project.write("data.csv", "id,text,size\na,one,1\nb,bad,2\n")
    assert project.batchrun("run", "jobs/job.yaml").code == 3
    first, results = project.record["execution_id"], project.folder / "tables/results"
    assert rows_of(results) == {first: {"a": "completed", "b": "failed"}}
    assert project.batchrun("run", "jobs/job.yaml").code == 3
    project.write("steps.py", "def tidy(text: str) -> str:\n    return text.upper()\n")
    done = project.batchrun("retry", first, "--accept-changes")
    assert done.code == 0, done.err
    second = next(path.name for path in project.executions if path.name != first)
    assert rows_of(results) == {first: {"a": "completed", "b": "completed"}, second: {"a": "completed", "b": "failed"}}
    commits = DeltaTable(str(results)).history()
    assert [commit["execution_id"] for commit in commits] == [first, second, first]


def test_a_plain_delta_export_is_in_the_folder_of_the_execution(project: Project) -> None:
    """As the other exports are."""
    assert project.batchrun("run", "job.yaml", "--set", "output.export=[delta]").code == 0
    (execution,) = project.executions
    assert rows_of(execution / "delta") == {execution.name: dict.fromkeys("abc", "completed")}


def test_a_table_takes_times_within_objects_and_lists(tmp_path: Path) -> None:
    """What Delta tables have no type for is converted however deep it is: else the execution would fail after its last item."""
    leg = {"took": timedelta(seconds=1.5), "at": time(3, 4, 5)}

    def timed(item: dict[str, int]) -> Timed:
        return {"legs": [leg, leg] if item["n"] == 1 else [], "took": timedelta(minutes=item["n"]) if item["n"] < 3 else None}

    export = Export(type="delta", path=str(tmp_path / "table"))
    done = batchrun.map(timed, [{"n": 1}, {"n": 2}, {"n": 3}], output=batchrun.Output(path=str(tmp_path), export=(export,)), quiet=True)
    assert done.status == "completed", done.error
    told = {"took": 1.5, "at": "03:04:05.000000"}
    assert pl.read_delta(export.path or "")["output"].to_list() == [
        {"legs": [told, told], "took": 60.0},
        {"legs": [], "took": 120.0},
        {"legs": [], "took": None},
    ]


def test_a_result_is_committed_to_a_table_later(project: Project) -> None:
    """As the copies in other formats are; the path is that of the command line, and the rows are those that are asked for."""
    assert project.batchrun("run", "job.yaml").code == 0
    done = project.batchrun("results", "--export", "delta", "--table", "later", "--filter", "size > 1")
    assert (done.code, done.out.strip()) == (0, str(project.folder / "later")), done.err
    assert rows_of(project.folder / "later") == {project.record["execution_id"]: dict.fromkeys("bc", "completed")}
    assert project.batchrun("results", "--export", "delta", "--to", "copies").code == 0
    assert pl.read_delta(str(project.folder / "copies/delta")).height == 3
    assert "--table belongs to --export delta" in project.batchrun("results", "--export", "csv", "--table", "later").err
    refused = project.batchrun("results", "--export", "delta", "--table", "s3://me:secret@bucket/x")
    assert refused.code == 2 and "credentials must not be in the address" in refused.err and "me:secret" not in refused.err


def test_tables_of_others_are_not_written_to(project: Project) -> None:
    """A path that was mistyped must not cost anybody a table; the result is there all the same."""
    write_deltalake(str(project.folder / "other"), ROWS)
    done = project.batchrun("run", "job.yaml", "--set", 'output.export=[{"type": "delta", "path": "other"}]')
    assert done.code == 1 and "is none of results; choose another path" in done.err, done.err
    assert project.result.num_rows == 3 and DeltaTable(str(project.folder / "other")).version() == 0


def test_commits_at_the_same_time_both_arrive(tmp_path: Path) -> None:
    """Two executions that end in the same moment are two commits."""
    table = str(tmp_path / "results")
    export = {"output.export": [{"type": "delta", "path": table}], "output.path": str(tmp_path / "runs")}
    job = batchrun.Job(dataset=pl.DataFrame({"id": [1, 2]}), workflow="builtins:str")
    with batchrun.Client() as client:
        both = [client.submit(job, overrides=export) for _ in range(2)]
        for each in both:
            each.wait(timeout_seconds=250)
    assert set(rows_of(tmp_path / "results")) == {each.id for each in both}
