"""Whatever is wrong with a job or its data is said clearly, at its place, before anything is done that could be taken for a result."""

from __future__ import annotations

import resource
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import DATA, JOB, Project

REJECTED = 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no job file job.yaml"),
        (b"\x80\x81\x00binary", "the job file job.yaml is not UTF-8 text"),
        (b"", "job.yaml the job is empty"),
        (b"name: [small\nparallelism: 3\n", "job.yaml:2:12 not valid YAML"),
        (b"name: a\nname: b\n", "job.yaml:2:1 name: duplicate key name; it is already at job.yaml:1:1"),
    ],
    ids=["missing", "binary", "empty", "syntax", "duplicate key"],
)
def test_a_file_that_is_no_job_is_refused(project: Project, content: bytes | None, message: str) -> None:
    """A job file that cannot be read is named, with line and column where there is one."""
    (project.folder / "job.yaml").unlink()
    if content is not None:
        project.write("job.yaml", content)
    ended = project.batchrun("run", "job.yaml")
    assert (ended.code, ended.out) == (REJECTED, "")
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert project.executions == []


def test_a_folder_is_no_job(project: Project) -> None:
    """Naming the project's folder instead of its job file is a common slip."""
    ended = project.batchrun("run", ".")
    assert (ended.code, ended.err) == (REJECTED, "the job file . cannot be read: Is a directory\n")


MISTAKES = """\
name: many
dataset:
  path: data.csv
  id: idd
  filter: "siez > 1"
workflow:
  nodes:
    - id: tidy
      type: python
      call: steps:tidi
      inputs: {text: "{{ item.txt }}"}
    - id: absent
      type: python
      call: no_such_module:function
    - id: broken
      type: python
      call: raises:function
    - id: signature
      type: python
      call: steps:tidy
      inputs: {test: "{{ nodes.absnt.output }}"}
    - {id: hen, type: template, template: "{{ nodes.egg.output }}"}
    - {id: egg, type: template, template: "{{ nodes.hen.output }}"}
output: {path: runs, keep: [sise]}
"""


def test_every_mistake_is_reported_at_once_and_at_its_place(project: Project) -> None:
    """Columns, references, functions and the shape of the graph: one run of the program finds all that is wrong with them."""
    project.write("job.yaml", MISTAKES)
    project.write("raises.py", "raise RuntimeError('no licence found')\n")
    ended = project.batchrun("run", "job.yaml")
    assert ended.code == REJECTED
    for message in (
        'job.yaml:4:7 dataset.id: unknown column "idd"; did you mean "id"?',
        'job.yaml:5:11 dataset.filter: unknown column "siez"; did you mean "size"?',
        "job.yaml:10:13 workflow.nodes[0].call: steps has no 'tidi'; did you mean \"tidy\"?",
        'job.yaml:11:22 workflow.nodes[0].inputs.text: unknown column "txt"; did you mean "text"?',
        "job.yaml:14:13 workflow.nodes[1].call: there is no module 'no_such_module'",
        "job.yaml:17:13 workflow.nodes[2].call: importing 'raises' failed: RuntimeError: no licence found",
        "job.yaml:21:22 workflow.nodes[3].inputs.test: the function has no parameter 'test'; did you mean \"text\"?",
        "job.yaml:21:15 workflow.nodes[3].inputs: the function's parameter 'text' is missing",
        'job.yaml:21:22 workflow.nodes[3].inputs.test: unknown node "absnt"; did you mean "absent"?',
        "job.yaml:22:7 workflow.nodes[4]: the nodes form a cycle: hen → egg → hen",
        'job.yaml:24:29 output.keep[0]: unknown column "sise"; did you mean "size"?',
    ):
        assert message in ended.err
    assert len(ended.err.splitlines()) == 11
    assert project.executions == []


def test_unknown_keys_and_wrong_types_are_named_with_what_was_meant(project: Project) -> None:
    """The shape of the file is checked before anything is opened, all of it at once."""
    project.write(
        "job.yaml", JOB.replace("call:", "cal:").replace("max_attempts: 1", "max_attempts: one").replace("type: python", "type: pithon")
    )
    project.write("other.yaml", JOB.replace("output:", "outptu:").replace("call:", "cal:").replace("id: id", "limit: -1"))
    ended = project.batchrun("run", "job.yaml")
    assert ended.code == REJECTED
    assert 'job.yaml:6:13 workflow.nodes[0].type: unknown type pithon; did you mean "python"? (types: ' in ended.err
    assert "job.yaml:9:29 run.retry.max_attempts: must be a whole number, got 'one'" in ended.err
    other = project.batchrun("run", "other.yaml")
    assert other.code == REJECTED
    assert "other.yaml:2:34 dataset.limit: must be ≥ 0, got -1" in other.err
    assert 'other.yaml:7:7 workflow.nodes[0].cal: unknown key cal; did you mean "call"?' in other.err
    assert 'other.yaml:10:1 outptu: unknown key outptu; did you mean "output"?' in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "dataset.path=nothing.csv"), "nothing.csv does not exist"),
        (("--set", "dataset.path=cut.parquet"), "cut.parquet is not a readable Parquet file, or is cut off"),
        (("--set", "dataset.path=rows.csv"), "2 rows do not parse"),
        (("--set", "dataset.path=twice.csv"), 'job.yaml:2:31 dataset.id: "id" is not unique'),
        (("--set", "dataset.path=null.csv"), 'job.yaml:2:31 dataset.id: "id" is null in 1 '),
        (("--set", "dataset.path=damaged.parquet", "--filter", "text <> ''"), "damaged.parquet cannot be read"),
        (("--set", "output.path=data.csv/runs"), "data.csv/runs"),
    ],
    ids=["missing", "cut off", "bad rows", "duplicate ids", "null ids", "damaged", "unwritable output"],
)
def test_data_that_cannot_be_run_is_refused(project: Project, arguments: tuple[str, ...], message: str) -> None:
    """What the files hold is checked before the first item, and a refused job leaves no folder."""
    for name, content in (
        ("twice.csv", DATA + "b,four,4\n"),
        ("null.csv", DATA + ",four,4\n"),
        ("rows.csv", DATA + "d,four\ne,five,5,6\n"),
    ):
        project.write(name, content)
    whole = damaged_table(project).read_bytes()
    project.write("cut.parquet", whole[: len(whole) // 2])
    ended = project.batchrun("run", "job.yaml", *arguments)
    assert (ended.code, ended.out) == (REJECTED, "")
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert project.executions == []


def damaged_table(project: Project) -> Path:
    """A Parquet file of 30,000 rows in which `text` cannot be read from row 20,000 on."""
    rows = range(30_000)
    columns = {"id": rows, "text": [f"row {row}" for row in rows], "size": rows}
    path = project.table("damaged.parquet", columns, row_group_size=10_000)
    chunk = pq.read_metadata(path).row_group(2).column(1)
    starts = [start for start in (chunk.dictionary_page_offset, chunk.data_page_offset) if start is not None]
    content = bytearray(path.read_bytes())
    content[min(starts) : min(starts) + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    return path


def test_reading_that_fails_half_way_keeps_what_was_done(project: Project) -> None:
    """A damaged page fails the execution, not the rows before it; the message says how many rows are missing."""
    damaged_table(project)
    ended = project.batchrun("run", "job.yaml", "--set", "dataset.path=damaged.parquet")
    assert ended.code == 1
    done = project.counters["completed_items"]
    assert 0 < done < 20_001
    assert project.result["item_index"].to_pylist() == list(range(done))
    assert set(project.result["status"].to_pylist()) == {"completed"}
    record = project.record
    assert (record["status"], record["totals"]["completed_items"]) == ("failed", done)
    assert "damaged.parquet cannot be read" in record["error"]
    assert f"the result has the {done:,} items that were loaded before, {30_000 - done:,} are missing from it" in record["error"]
    shown = "".join(character if character.isprintable() else "" for character in record["error"])
    assert shown.partition("cannot be")[0] in ended.err and shown.rpartition(";")[2] in ended.err
    assert f"30,000 items: {done:,} completed, {30_000 - done:,} not done" in ended.err


def test_rows_that_do_not_parse_can_be_put_aside(project: Project) -> None:
    """With on_bad_rows: reject the good rows run, and the bad ones are kept as they were written, with line and reason."""
    project.write("data.csv", DATA + "d,four\ne,five,5,6\nf,six,6\n")
    ended = project.batchrun("run", "job.yaml", "--set", "dataset.on_bad_rows=reject")
    assert ended.code == 0, ended.err
    assert project.result["source_item_id"].to_pylist() == ["a", "b", "c", "f"]
    assert project.record["rejected_rows"] == 2
    assert "rejects.parquet   2 rows of the dataset that do not parse" in ended.err
    rejects = pl.read_parquet(project.executions[0] / "rejects.parquet")
    assert rejects.select("line_number", "raw").rows() == [(5, "d,four"), (6, "e,five,5,6")]


@pytest.mark.parametrize("data", ["empty.parquet", "header.csv", "data.csv"], ids=["no rows", "only a header", "nothing passes the filter"])
def test_no_items_is_a_result_without_rows(project: Project, data: str) -> None:
    """A schedule must not fail on a day without data: the table is there, empty, with all its columns."""
    project.table(
        "empty.parquet",
        {"id": [], "text": [], "size": []},
    )
    project.write("header.csv", "id,text,size\n")
    ended = project.batchrun("run", "job.yaml", "--set", f"dataset.path={data}", "--filter", "text = 'none is like this'")
    assert ended.code == 0, ended.err
    assert "0 items: the dataset is empty, or no row passes its filter" in ended.err
    assert project.counters["total_items"] == 0
    assert project.result.column_names[-2:] == ["node_executions", "size"]
    assert project.files == {"results.parquet", "inputs.parquet", "report.html", "execution.json", "journal"}


@pytest.mark.parametrize("data", ["large.parquet", "large.csv"])
def test_a_full_disk_ends_the_execution_with_advice(project: Project, data: str) -> None:
    """When nothing more can be written, the message says what to do, and no half of a file stays behind."""
    frame = pl.DataFrame({"id": range(80_000), "text": "some text", "size": 1})
    frame.write_parquet(project.folder / "large.parquet")
    frame.write_csv(project.folder / "large.csv")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    ended = project.batchrun("run", "job.yaml", "--set", f"dataset.path={data}", preexec_fn=limit)
    assert ended.code == 1, ended.err
    assert "cannot write" in ended.err
    assert "raise the limit (ulimit -f), then run again" in ended.err
    assert "Traceback" not in ended.err
    assert {file.name for execution in project.executions for file in execution.iterdir()} <= {
        "execution.json",
        "inputs.parquet",
        "journal",
        "report.html",
    }
    if project.executions:  # else the copy of the dataset did not fit, and nothing was begun
        assert project.batchrun("resume").code == 0
        assert project.counters["completed_items"] == 80_000
