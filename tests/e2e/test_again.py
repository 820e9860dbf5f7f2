"""Running again: the failed items of an execution, or its whole job as a new one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchrun.testing.loopback import Answer, LoopbackServer, json_answer
from tests.e2e.conftest import Project

STEPS = """\
from pathlib import Path


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


def clean(size: int) -> int:
    note(f"clean {size}")
    return size


def judge(size: int) -> str:
    note(f"judge {size}")
    if size in (1, 4) and Path("down").exists():
        raise LookupError(f"no judge for {size}")
    if size == 2 and not Path("mended").exists():
        raise ValueError("2 is refused")
    return f"{size} is fine"


def tidy(item):
    return item["text"].upper()
"""
JOB = """\
name: judged
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: clean, type: python, call: "steps:clean", inputs: {size: "{{ item.size }}"}}
    - {id: judge, type: python, call: "steps:judge", inputs: {size: "{{ nodes.clean.output }}"}}
run: {parallelism: 2, retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""
DATA = "id,size\na,0\nb,1\nc,2\nd,3\ne,4\n"


@pytest.fixture
def work(project: Project) -> Project:
    """A job of two nodes; the second one fails for the items 1 and 4 while the file `down` is there, and for 2 until `mended` is."""
    for name, content in (("steps.py", STEPS), ("job.yaml", JOB), ("data.csv", DATA), ("down", "")):
        project.write(name, content)
    return project


@pytest.fixture
def judged(work: Project) -> Project:
    """An execution of it that completed with three failed items."""
    assert work.batchrun("run", "job.yaml", "--quiet").code == 3
    assert statuses(work) == ["completed", "failed", "failed", "completed", "failed"]
    (work.folder / "log").unlink()
    return work


def statuses(work: Project) -> list[str]:
    found: list[str] = work.result["status"].to_pylist()
    return found


def column(work: Project, name: str) -> list[Any]:
    found: list[Any] = work.result[name].to_pylist()
    return found


def calls(work: Project) -> list[str]:
    """The calls that were made since the last time, sorted."""
    log = work.folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(lines)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def test_failed_items_are_run_again_into_the_same_result(judged: Project) -> None:
    """Only those that were asked for, only from where they failed; attempts add up and the exit code is that of the whole result."""
    (judged.folder / "down").unlink()
    some = judged.batchrun("retry", "--where", "error.type = 'LookupError' AND size < 4")
    assert some.code == 3, some.err
    assert "5 items: 3 completed, 2 failed" in some.err
    assert calls(judged) == ["judge 1"]
    assert statuses(judged) == ["completed", "completed", "failed", "completed", "failed"]
    assert column(judged, "attempts") == [1, 2, 1, 1, 1]
    assert [node["attempts"] for node in column(judged, "node_executions")[1]] == [1, 2]
    again = judged.batchrun("retry", "latest", "--json", "--quiet")
    assert (again.code, json.loads(again.out)) == (3, judged.record)
    assert calls(judged) == ["judge 2", "judge 4"]
    (judged.folder / "mended").touch()
    assert judged.batchrun("retry", judged.executions[0].name).code == 0
    assert calls(judged) == ["judge 2"]
    assert column(judged, "output") == [f"{size} is fine" for size in range(5)]
    assert column(judged, "attempts") == [1, 2, 3, 1, 2]
    assert (judged.counters["completed_items"], judged.counters["failed_items"]) == (5, 0)
    assert "failures.parquet" not in judged.files
    assert [change["status"] for change in judged.record["states"]].count("completed") == 4


def test_a_retry_is_a_new_call_to_a_service(work: Project) -> None:
    """A service that remembers the calls it has answered must not take the retry for a repetition, unlike a resume after a crash."""
    answers = [Answer(status=500), *[json_answer({"n": 1})] * 10]
    with LoopbackServer({"/": answers}) as server:
        nodes = f"workflow.nodes=[{{id: ask, type: http, request: {{url: '{server.url}', method: POST}}}}]"
        assert work.batchrun("run", "job.yaml", "--quiet", "--limit", "2", "--set", nodes, "--set", "run.parallelism=1").code == 3
        assert work.batchrun("retry", "--quiet").code == 0
        first, other, again = (request.headers["idempotency-key"] for request in server.requests)
    assert len({first, other, again}) == 3
    assert [column(work, "node_executions")[item][0]["call_key"] for item in (0, 1)] == [again, other]


def test_from_start_runs_all_nodes_of_failed_items(judged: Project) -> None:
    """When the mistake lies in what an earlier node gave, keeping its output would keep the mistake."""
    (judged.folder / "down").unlink()
    assert judged.batchrun("retry", "--from-start", "--where", "error.message LIKE 'no judge%'").code == 3
    assert calls(judged) == ["clean 1", "clean 4", "judge 1", "judge 4"]
    assert column(judged, "attempts") == [1, 2, 1, 1, 2]


def test_a_retry_with_edited_code_must_be_accepted(judged: Project) -> None:
    """Code that changed is not mixed into a result unnoticed; where it is meant, the edited node and nothing else runs anew."""
    judged.write("steps.py", STEPS.replace('raise ValueError("2 is refused")', 'return "2 is pardoned"'))
    before = contents(judged.executions[0])
    refused = judged.batchrun("retry", "--where", "size = 2")
    assert refused.code == 2 and "--accept-changes" in refused.err
    assert contents(judged.executions[0]) == before
    assert judged.batchrun("retry", "--where", "size = 2", "--accept-changes", "--set", "run.parallelism=1").code == 3
    assert calls(judged) == ["judge 2"]
    assert (column(judged, "output")[2], judged.record["job"]["run"]["parallelism"]) == ("2 is pardoned", 1)


def test_a_retry_that_has_nothing_to_do_changes_nothing(judged: Project) -> None:
    """Conditions that match no failed item, or are none, leave the result and its journal as they are."""
    folder = judged.executions[0]
    before = contents(folder)
    for condition in ("error.type = 'Timeout'", "status = 'completed'"):
        nothing = judged.batchrun("retry", "--where", condition)
        assert (nothing.code, nothing.out) == (0, "")
        assert nothing.err == f"no failed item in runs/{folder.name} for which {condition}: there is nothing to do\n"
    for condition in ("eror.type = 'Timeout'", "size =", "size", "CAST(error.message AS INT) > 3", ""):
        wrong = judged.batchrun("retry", "--where", condition)
        assert (wrong.code, wrong.out) == (2, ""), condition
        assert f"filter {condition!r} cannot be used: " in wrong.err and "Traceback" not in wrong.err
    assert calls(judged) == []
    assert contents(folder) == before
    for name in ("down", "mended"):
        (judged.folder / name).unlink() if name == "down" else (judged.folder / name).touch()
    assert judged.batchrun("retry").code == 0
    nothing = judged.batchrun("retry")
    assert (nothing.code, nothing.err) == (0, f"no failed item in runs/{folder.name}: there is nothing to do\n")


def test_a_retry_leaves_items_that_have_not_ended_to_a_resume(work: Project) -> None:
    """Failed items of a stopped execution can be mended without running the rest."""
    paused = work.batchrun("run", "job.yaml", "--quiet", "--set", "run.budget.max_calls=6", "--set", "run.parallelism=1")
    assert (paused.code, statuses(work)) == (4, ["completed", "failed", "failed", "cancelled", "cancelled"])
    calls(work)
    (work.folder / "down").unlink()
    retried = work.batchrun("retry", "--where", "error.type = 'LookupError'", "--set", "run.budget.max_calls=null")
    assert retried.code == 4 and "to go on: batchrun resume runs/" in retried.err
    assert calls(work) == ["judge 1"]
    assert statuses(work) == ["completed", "completed", "failed", "cancelled", "cancelled"]
    assert work.batchrun("resume").code == 3
    assert calls(work) == ["clean 3", "clean 4", "judge 3", "judge 4"]
    assert statuses(work) == ["completed", "completed", "failed", "completed", "completed"]


def rerun(work: Project, *arguments: str, code: int = 0) -> tuple[dict[str, Any], pl.DataFrame]:
    """Run the job of the first execution again; returns the record of the new one, and its result."""
    first = min(work.executions)
    ended = work.batchrun("rerun", first.name, "--quiet", "--json", *arguments)
    assert ended.code == code, ended.err
    record = json.loads(ended.out)
    assert record["execution_id"] != first.name
    return record, pl.read_parquet(Path(record["folder"]) / "results.parquet")


def test_a_rerun_is_a_new_execution_of_the_job_as_it_was_run(judged: Project) -> None:
    """What was overridden then counts again, not what the file says now; the old execution stays as it is."""
    (first,) = judged.executions
    before = contents(first)
    judged.write("job.yaml", "name: something else")
    (judged.folder / "down").unlink()
    record, rows = rerun(judged, code=3)
    assert (record["job_name"], record["rerun_of"]) == ("judged", first.name)
    assert rows["status"].cast(pl.String).to_list() == ["completed", "completed", "failed", "completed", "completed"]
    assert len(calls(judged)) == 10
    record, rows = rerun(judged, "--set", "dataset.limit=2", "--set", "run.parallelism=3")
    assert (rows["output"].to_list(), record["job"]["run"]["parallelism"]) == (["0 is fine", "1 is fine"], 3)
    assert contents(first) == before
    assert [json.loads((folder / "execution.json").read_text())["status"] for folder in judged.executions] == ["completed"] * 3


def test_a_rerun_can_be_given_the_outputs_of_nodes(judged: Project) -> None:
    """An expensive or broken node is left out; what is given is taken as it is, braces and all, and the rest runs."""
    _, rows = rerun(judged, "--override", "nodes.judge.output='{{ item.size }} or { a: b }'")
    assert rows["output"].to_list() == ['"{{ item.size }} or { a: b }"'] * 5
    assert calls(judged) == [f"clean {size}" for size in range(5)]
    _, rows = rerun(judged, "--override", "nodes.clean.output=3", "--override", "nodes.judge.output={label: '{{ x }}', n: [1]}")
    assert [json.loads(output) for output in rows["output"]] == [{"label": "{{ x }}", "n": [1]}] * 5
    assert calls(judged) == []
    for given, sentence in {
        "nodes.jugde.output=1": 'unknown node "jugde"; did you mean "judge"?',
        "judge=1": "give it as nodes.ID.output=value",
        "nodes.judge.output": "give it as path=value",
        "nodes.judge.output={{ item.size }}": 'a template needs quotes: "{{ … }}"',
    }.items():
        refused = judged.batchrun("rerun", "--override", given)
        assert (refused.code, refused.out) == (2, "") and sentence in refused.err
    assert len(judged.executions) == 3


def test_a_rerun_may_insist_on_the_original_dataset(judged: Project) -> None:
    """Two executions are compared only when they read the same rows; otherwise the newest rows are what is wanted."""
    (judged.folder / "down").unlink()
    (judged.folder / "mended").touch()
    _, rows = rerun(judged, "--dataset-version", "original")
    assert rows.height == 5
    judged.write("data.csv", DATA + "f,5\n")
    count = len(judged.executions)
    refused = judged.batchrun("rerun", judged.executions[0].name, "--dataset-version", "original")
    assert refused.code == 2 and "the dataset data.csv is not what it was" in refused.err
    assert len(judged.executions) == count
    _, rows = rerun(judged, "--dataset-version", "latest")
    assert rows["output"].to_list()[-1] == "5 is fine"
    assert judged.batchrun("rerun", "--dataset-version", "newest").code == 2


def test_a_rerun_of_a_data_frame_takes_its_copy_along(work: Project) -> None:
    """A frame lives on as a file in the folder of each execution, so each can be moved, resumed and run again alone."""
    script = 'import polars as pl, batchrun, steps\nbatchrun.map(steps.tidy, pl.DataFrame({"text": ["one", "two"]}), quiet=True)\n'
    work.write("script.py", script)
    assert subprocess.run([sys.executable, "script.py"], cwd=work.folder, check=False, timeout=250).returncode == 0
    (first,) = work.executions
    first.rename(work.folder / "moved")
    again = work.batchrun("rerun", "moved", "--dataset-version", "original", "--json", "--quiet")
    assert again.code == 0, again.err
    shutil.rmtree(work.folder / "moved")
    (second,) = work.executions
    assert (second / "dataset.parquet").exists()
    assert column(work, "output") == ['"ONE"', '"TWO"']
    third = work.batchrun("rerun", second.name, "--set", "dataset.limit=1", "--json", "--quiet")
    assert third.code == 0, third.err
    assert pl.read_parquet(Path(json.loads(third.out)["folder"]) / "results.parquet")["output"].to_list() == ['"ONE"']
