"""The commands, from what is typed to what is printed and left on the disk."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import DATA, Project, ended


@pytest.fixture
def ended_project(project: Project) -> Project:
    """A project with one execution, in which the item `b` failed."""
    project.write("data.csv", DATA.replace('"two, and a half"', "bad"))
    assert project.batchrun("run", "job.yaml", "--quiet").code == 3
    return project


def test_run_leaves_one_row_per_item_and_tells_people_on_stderr(project: Project) -> None:
    """A run that goes well exits with 0, prints nothing for programs and leaves a private folder."""
    ended = project.batchrun("run", "job.yaml")
    assert (ended.code, ended.out) == (0, "")
    assert "small: 3 of 3 items, 0 failed" in ended.err
    assert "3 items: 3 completed\n" in ended.err
    (execution,) = project.executions
    assert f"runs/{execution.name}/results.parquet\n" in ended.err
    assert execution.stat().st_mode & 0o777 == 0o700
    assert project.files == {"results.parquet", "inputs.parquet", "report.html", "execution.json", "journal"}
    rows = project.result.select(["source_item_id", "item_index", "status", "output", "size"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a", 0, "completed", "ONE", 1),
        ("b", 1, "completed", "TWO, AND A HALF", 2),
        ("c", 2, "completed", "THREE", 3),
    ]


def test_quiet_prints_nothing_and_json_only_the_record(project: Project) -> None:
    """Programs get the execution record on stdout, and nothing they would have to skip."""
    ended = project.batchrun("run", "job.yaml", "--quiet", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == project.record
    assert (project.record["status"], project.record["totals"]["completed_items"]) == ("completed", 3)
    silent = project.batchrun("run", "job.yaml", "-q")
    assert (silent.code, silent.out, silent.err) == (0, "", "")


def test_quiet_does_not_hide_why_a_run_did_not_complete(project: Project) -> None:
    """A line in the log of a cron job is all that its reader has."""
    ended = project.batchrun("run", "job.yaml", "--quiet", "--set", "run.budget.max_calls=1", "--set", "run.parallelism=1")
    (line,) = ended.err.splitlines()
    assert ended.code == 4 and project.record["execution_id"] in line and "paused" in line and "max_calls" in line


def test_a_terminal_gets_a_progress_bar(project: Project) -> None:
    """Where a person watches, progress is a bar with the counts; the summary follows it."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = project.start("run", "job.yaml", stderr=inside)
    os.close(inside)
    shown = b""
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:  # how Linux says that the other side has closed the terminal
        pass
    finally:
        os.close(terminal)
    assert ended(process).code == 0
    bar, _, summary = shown.decode().partition("\r\n")
    assert "small: 100%|" in bar
    assert "3/3" in bar
    assert "failed=0" in bar
    assert "3 items: 3 completed" in summary


def test_failed_items_exit_with_3_and_are_the_dataset_of_another_job(ended_project: Project) -> None:
    """What failed comes back as source rows, ready to be run again when the cause is gone."""
    (execution,) = ended_project.executions
    failures = pl.read_parquet(execution / "failures.parquet")
    assert failures.columns == ["id", "text", "size", "item_index", "error", "attempts"]
    assert failures.select("id", "text", "size", "item_index").rows() == [("b", "bad", 2, 1)]
    assert failures["error"][0]["message"] == "nothing can be made of this"
    ended_project.write("steps.py", "def tidy(text):\n    return text + ' is fine now'\n")
    ended = ended_project.batchrun(
        "run", "job.yaml", "--set", f"dataset.path=runs/{execution.name}/failures.parquet", "--set", "output.path=again"
    )
    assert ended.code == 0, ended.err
    (again,) = (ended_project.folder / "again").iterdir()
    assert pl.read_parquet(again / "results.parquet").select("source_item_id", "output", "size").rows() == [("b", '"bad is fine now"', 2)]


def test_a_summary_groups_failures_and_points_to_their_rows(ended_project: Project) -> None:
    """A person sees what failed, where, and which file to look at, without opening the result."""
    ended = ended_project.batchrun("run", "job.yaml")
    assert ended.code == 3
    assert "3 items: 2 completed, 1 failed" in ended.err
    assert "ValueError  tidy  1      b: nothing can be made of this" in ended.err
    assert "failures.parquet   the rows of the failed items" in ended.err


def test_overrides_change_one_run_and_are_recorded(project: Project) -> None:
    """What is set on the command line takes effect, and the record says what was run."""
    arguments = (
        "--set",
        "run.parallelism=2",
        "--set",
        "output.node_executions=none",
        "--limit",
        "1",
        "--filter",
        "size > 1 AND text <> 'it''s'",
    )
    ended = project.batchrun("run", "job.yaml", *arguments)
    assert ended.code == 0, ended.err
    assert project.result["source_item_id"].to_pylist() == ["b"]
    job = project.record["job"]
    assert (job["run"]["parallelism"], job["output"]["node_executions"]) == (2, "none")
    assert (job["dataset"]["limit"], job["dataset"]["filter"]) == (1, "size > 1 AND text <> 'it''s'")


def test_results_are_shown_filtered_and_exported(ended_project: Project) -> None:
    """The table is one command away: for people, as JSON lines, and as files elsewhere."""
    (execution,) = ended_project.executions
    shown = ended_project.batchrun("results", "--head", "2")
    lines = shown.out.splitlines()
    assert (shown.code, len(lines)) == (0, 3)
    assert lines[0].split()[:4] == ["source_item_id", "item_index", "status", "output"]
    assert "ValueError: nothing can be made of this" in lines[2]

    failed = ended_project.batchrun("results", execution.name, "--filter", "error.type = 'ValueError'", "--json")
    (row,) = (json.loads(line) for line in failed.out.splitlines())
    assert (row["source_item_id"], row["status"], row["error"]["node_id"]) == ("b", "failed", "tidy")
    assert row["node_executions"][0]["input"] == {"text": "bad"}

    exported = ended_project.batchrun(
        "results", str(execution), "--export", "csv", "--export", "ndjson", "--to", "for/friends", "--filter", "status = 'completed'"
    )
    assert exported.code == 0, exported.err
    assert exported.out.splitlines() == ["for/friends/results.csv", "for/friends/results.ndjson"]
    target = ended_project.folder / "for/friends"
    assert pl.read_csv(target / "results.csv")["output"].to_list() == ["ONE", "THREE"]
    assert pl.read_ndjson(target / "results.ndjson")["source_item_id"].to_list() == ["a", "c"]


def test_an_execution_is_named_by_the_beginning_of_its_id(ended_project: Project) -> None:
    """An id need not be typed to its end, and a wrong one is answered with those there are."""
    (execution,) = ended_project.executions
    assert ended_project.batchrun("results", execution.name[:17]).out.startswith("source_item_id")
    unknown = ended_project.batchrun("results", "1999")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == f"Error: no execution '1999'; the latest are {execution.name}\n"
    nowhere = ended_project.batchrun("results", "--runs", "elsewhere")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert nowhere.err == (
        "Error: no execution 'latest': there is none in elsewhere; name its folder, or the folder that has it with --runs\n"
    )
    for condition in ("satus = 'failed'", "status = 1"):
        bad = ended_project.batchrun("results", "--filter", condition)
        assert bad.code == 2
        assert bad.err.startswith(f"filter {condition!r} cannot be used: ")


@pytest.mark.parametrize("command", ["results", "resume", "retry", "rerun", "pause", "cancel"])
def test_an_empty_name_is_no_execution(ended_project: Project, command: str) -> None:
    """A shell variable that is not set must not stand for the only execution there is."""
    (execution,) = ended_project.executions
    refused = ended_project.batchrun(command, "")
    assert (refused.code, refused.out, refused.err) == (1, "", f"Error: no execution ''; the latest are {execution.name}\n")
    assert ended_project.executions == [execution]


def test_an_execution_is_found_where_it_is(ended_project: Project) -> None:
    """By its id wherever its folder was made, as a folder that was moved, and as the latest of the folder that is named."""
    (first,) = ended_project.executions
    assert ended_project.batchrun("run", "job.yaml", "--quiet", "--set", "output.path=out").code == 3
    (second,) = (ended_project.folder / "out").iterdir()
    for named, found in {
        (): second,
        ("latest", "--runs", "runs"): first,
        (second.name,): second,
        (first.name, "--runs", "runs"): first,
    }.items():
        exported = ended_project.batchrun("results", *named, "--export", "csv")
        assert (exported.code, exported.out) == (0, f"{found.relative_to(ended_project.folder)}/results.csv\n")
    elsewhere = ended_project.batchrun("results", second.name, "--runs", "runs")
    assert elsewhere.err == f"Error: no execution '{second.name}'; the latest are {first.name}\n"
    second.rename(ended_project.folder / "moved")
    assert ended_project.batchrun("results", "moved", "--export", "csv").out == "moved/results.csv\n"
    too_long = ended_project.batchrun("results", "x" * 300)
    assert too_long.code == 1 and "Traceback" not in too_long.err


def test_paths_are_told_from_where_the_command_was_called(project: Project) -> None:
    """A function that goes to another folder must not make the paths useless that people copy from the terminal."""
    project.write("steps.py", "import os\n\n\ndef tidy(text: str) -> str:\n    os.chdir('/')\n    return text\n")
    ended = project.batchrun("run", "job.yaml")
    assert ended.code == 0, ended.err
    assert f"\nruns/{project.executions[0].name}/results.parquet\n" in ended.err


def test_validate_and_plan_read_the_job_and_run_nothing(project: Project) -> None:
    """A job can be looked at before it costs anything: what is valid, what is read, where the filter goes."""
    valid = project.batchrun("validate", "job.yaml", "--limit", "1")
    assert (valid.code, valid.out, valid.err) == (0, "", "job.yaml: valid; 3 columns, nodes: tidy\n")
    project.table("data.parquet", {"id": [1], "text": ["a"], "size": [3], "unused": [0]})
    plan = project.batchrun("plan", "job.yaml", "--explain", "--set", "dataset.path=data.parquet", "--filter", "size > 2")
    assert plan.code == 0, plan.err
    assert "columns   text (of 4)" in plan.out
    assert "stage 1   tidy (python)" in plan.out
    explained = plan.out.partition("Parquet SCAN")[2]
    assert "PROJECT 3/4 COLUMNS" in explained
    assert 'SELECTION: col("size") > 2' in explained
    assert project.executions == []


def test_schema_is_json_that_describes_the_job(project: Project) -> None:
    """Editors can check and complete a job file."""
    ended = project.batchrun("schema")
    assert ended.code == 0, ended.err
    schema = json.loads(ended.out)
    assert {"dataset", "workflow"} <= set(schema["required"])


def test_init_writes_a_job_that_runs_and_never_overwrites(project: Project) -> None:
    """The starter job works as it is, on any CSV file of the name it gives."""
    assert project.batchrun("init", "mine.yaml").code == 0
    ended = project.batchrun("run", "mine.yaml")
    assert ended.code == 0, ended.err
    assert project.result["output"].to_pylist()[0] == {"note": "Hello, this row has 3 columns.", "columns": 3}
    assert "results.csv" in project.files
    kept = (project.folder / "job.yaml").read_text()
    again = project.batchrun("init")
    assert (again.code, again.err) == (1, "Error: job.yaml is there already; name another file\n")
    assert (project.folder / "job.yaml").read_text() == kept


def test_polars_pyarrow_and_duckdb_read_the_same_result(ended_project: Project) -> None:
    """The file is plain Parquet: every tool of the field sees the same columns and rows."""
    (execution,) = ended_project.executions
    path = execution / "results.parquet"
    arrow, frame = pq.read_table(path), pl.read_parquet(path)
    with duckdb.connect() as connection:
        duck = connection.sql(f"SELECT * FROM '{path}'").to_arrow_table()  # noqa: S608 - our own path
    names = arrow.column_names
    assert frame.columns == duck.column_names == names
    assert names[:7] == ["source_item_id", "item_index", "status", "output", "error", "attempts", "started_at"]
    shown = [name for name in names if name not in {"started_at", "completed_at"}]
    rows = arrow.select(shown).to_pylist()
    assert frame.select(shown).to_dicts() == rows
    assert duck.select(shown).to_pylist() == rows
    for name in ("started_at", "completed_at"):
        micros = arrow[name].cast("int64").to_pylist()
        assert frame[name].cast(pl.Int64).to_list() == micros
        assert duck[name].cast("int64").to_pylist() == micros


def test_help_and_usage_errors_follow_the_conventions(project: Project) -> None:
    """Help says which exit code means what; a wrong option is a usage error, not a run."""
    assert "3 some items failed" in project.batchrun("--help").out
    wrong = project.batchrun("run", "job.yaml", "--limit", "-1")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--limit" in wrong.err
    assert project.batchrun("runn", stdout=subprocess.PIPE).code == 2
    assert project.executions == []
