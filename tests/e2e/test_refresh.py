"""`batchrun refresh`: what changed is run again, and nothing else."""

from __future__ import annotations

import json
import shutil
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import Ended, Project

STEPS = """\
def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


def clean(text: str) -> str:
    note(f"clean {text}")
    return text.strip()


def classify(text: str) -> str:
    note(f"classify {text}")
    if text == "bad":
        raise ValueError("nothing can be made of this")
    return text.upper()
"""
JOB = """\
name: tickets
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: clean, type: python, call: "steps:clean", inputs: {text: "{{ item.text }}"}}
    - {id: classify, type: python, call: "steps:classify", inputs: {text: "{{ nodes.clean.output }}"}}
run: {parallelism: 2, retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""
DATA = "id,text,size,other\na,one,1,x\nb,two,2,x\nc,bad,3,x\nd,four,4,x\n"
FINE = "id,text,size,other\na,one,1,x\nb,two,2,x\n"


@pytest.fixture
def work(project: Project) -> Project:
    """A job of two nodes, the second of which fails for the text `bad`."""
    for name, content in (("steps.py", STEPS), ("job.yaml", JOB), ("data.csv", FINE)):
        project.write(name, content)
    return project


def refreshed(work: Project, *arguments: str, code: int = 0) -> Ended:
    ended = work.batchrun("refresh", "job.yaml", *arguments)
    assert ended.code == code, ended.err
    return ended


def calls(work: Project) -> list[str]:
    """The calls since this was asked last."""
    log = work.folder / "log"
    lines = sorted(log.read_text().splitlines()) if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def rows(work: Project, at: int = -1) -> dict[Any, dict[str, Any]]:
    table = pq.read_table(work.executions[at] / "results.parquet")
    found: list[dict[str, Any]] = table.to_pylist()
    assert [row["item_index"] for row in found] == sorted(row["item_index"] for row in found)
    return {row["source_item_id"]: row for row in found}


def record(work: Project, at: int = -1) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((work.executions[at] / "execution.json").read_text())
    return content


def test_new_changed_removed_and_failed_rows(work: Project) -> None:
    """Rows are matched by their id, wherever they are now; only those that must be are run, and it is said before."""
    work.write("data.csv", DATA)
    first = refreshed(work, code=3)
    assert "no earlier execution to go on from → 4 items in full" in first.err
    calls(work)
    work.write("data.csv", "id,text,size,other\nz,new,0,x\nb,two!,2,x\na,one,1,x\nc,bad,3,x\n")
    plan = refreshed(work, "--plan", "--json")
    said = "1 new, 1 changed, 1 failed before, 1 removed → 3 items in full, 1 item reused"
    assert said in plan.err and len(work.executions) == 1 and calls(work) == []
    assert {name: json.loads(plan.out)[name] for name in ("full_items", "reused_items", "removed_items", "has_work", "text")} == {
        "full_items": 3, "reused_items": 1, "removed_items": 1, "has_work": True, "text": said,
    }  # fmt: skip
    second = refreshed(work, code=3)
    assert said in second.err and "4 items: 3 completed, 1 failed; 1 of them reused" in second.err
    assert calls(work) == ["classify bad", "classify new", "classify two!", "clean bad", "clean new", "clean two!"]
    found = rows(work)
    assert [(id, row["status"], row["item_index"]) for id, row in found.items()] == [
        ("z", "completed", 0), ("b", "completed", 1), ("a", "completed", 2), ("c", "failed", 3),
    ]  # fmt: skip
    assert {id: row["reused_from"] for id, row in found.items()} == {"z": None, "b": None, "a": work.executions[0].name, "c": None}
    earlier = rows(work, 0)["a"]
    assert {**found["a"], "item_index": 0, "reused_from": None} == earlier
    removed = pq.read_table(work.executions[1] / "removed.parquet").to_pylist()
    assert [row["source_item_id"] for row in removed] == ["d"]
    assert pq.read_table(work.executions[1] / "failures.parquet")["id"].to_pylist() == ["c"]
    metadata = pq.read_metadata(work.executions[1] / "results.parquet").metadata
    assert (metadata[b"reused_items"], record(work)["totals"]["reused_items"]) == (b"1", 1)
    assert "1 reused" in work.batchrun("list").out and f"refresh of {work.executions[0].name}" in work.batchrun("show").out


def test_nothing_new_makes_no_execution(work: Project) -> None:
    """A schedule may ask as often as it likes; columns that nobody reads change nothing, nor does the order of the rows."""
    refreshed(work)
    calls(work)
    for content in (FINE, "id,other,text,size\nb,y,two,2\na,y,one,1\n"):
        work.write("data.csv", content)
        ended = refreshed(work, "--json")
        assert f"nothing new since {work.executions[0].name}" in ended.err
        assert json.loads(ended.out)["execution_id"] == work.executions[0].name
    assert calls(work) == [] and len(work.executions) == 1


def test_an_edited_node_in_the_middle(work: Project) -> None:
    """Items go on from the edited node: what the nodes before it gave is in the earlier result."""
    work.write("data.csv", DATA)
    refreshed(work, code=3)
    calls(work)
    work.write("steps.py", STEPS.replace("text.upper()", "text.title()"))
    work.write("data.csv", DATA.replace("two", "too"))
    ended = refreshed(work, code=3)
    assert "1 changed, 1 failed before, node classify edited → 2 items in full, 2 items from classify on" in ended.err
    assert calls(work) == ["classify bad", "classify four", "classify one", "classify too", "clean bad", "clean too"]
    found = rows(work)
    assert {id: row["output"] for id, row in found.items()} == {"a": "One", "b": "Too", "c": None, "d": "Four"}
    assert [(node["node_id"], node["output"]) for node in found["d"]["node_executions"]] == [("clean", '"four"'), ("classify", '"Four"')]
    assert {row["reused_from"] for row in found.values()} == {None}


def test_an_edited_first_node_and_edited_options(work: Project) -> None:
    """What comes before nothing is run in full; an option counts as much as the source of a function."""
    refreshed(work)
    calls(work)
    work.write("job.yaml", JOB.replace('"{{ item.text }}"', '"{{ item.text }} "'))
    assert "node clean edited → 2 items in full" in refreshed(work).err
    assert len(calls(work)) == 4
    work.write("job.yaml", JOB.replace('"{{ item.text }}"', '"{{ item.text }} "').replace("output: {", "output: {export: [csv], "))
    assert "nothing new" in refreshed(work).err


def test_an_edited_output_calls_nothing(work: Project) -> None:
    """The output is made anew from what the nodes gave."""
    refreshed(work)
    calls(work)
    work.write("job.yaml", JOB.replace("run: {", '  output: {label: "{{ nodes.classify.output }}"}\nrun: {'))
    assert "the output edited → 2 items from the output on" in refreshed(work).err
    assert calls(work) == []
    assert [row["output"] for row in rows(work).values()] == ['{"label":"ONE"}', '{"label":"TWO"}']


def test_results_without_outputs_of_nodes(work: Project) -> None:
    """What was not written down cannot be gone on from, and that is said."""
    work.write("job.yaml", JOB.replace("keep:", "node_executions: summary, keep:"))
    refreshed(work)
    calls(work)
    work.write("steps.py", STEPS.replace("text.upper()", "text.title()"))
    ended = refreshed(work)
    assert "did not keep the outputs of its nodes (output.node_executions: summary): all items run in full" in ended.err
    assert "→ 2 items in full" in ended.err and len(calls(work)) == 4


def test_kept_columns_are_those_of_now(work: Project) -> None:
    """A column that is only copied into the result needs no call to be up to date."""
    refreshed(work)
    calls(work)
    work.write("data.csv", FINE.replace("two,2", "two,22"))
    assert "1 with other kept columns → 2 items reused" in refreshed(work).err
    assert {id: row["size"] for id, row in rows(work).items()} == {"a": 1, "b": 22}
    work.write("job.yaml", JOB.replace("[size]", "[size, other]"))
    refreshed(work)
    assert {id: (row["size"], row["other"]) for id, row in rows(work).items()} == {"a": (1, "x"), "b": (22, "x")}
    assert calls(work) == []


def test_a_refresh_of_a_refresh_of_a_refresh(work: Project) -> None:
    """A row names the execution that made it, not the one it was last taken from, and that may be deleted."""
    refreshed(work)
    for number in range(2):
        work.write("data.csv", FINE + "".join(f"n{at},text {at},0,x\n" for at in range(number + 1)))
        refreshed(work)
    names = [folder.name for folder in work.executions]
    assert {id: row["reused_from"] for id, row in rows(work).items()} == {"a": names[0], "b": names[0], "n0": names[1], "n1": None}
    calls(work)
    for folder in work.executions[:2]:
        shutil.rmtree(folder)
    assert f"nothing new since {names[2]}" in refreshed(work).err
    assert calls(work) == []


def test_without_an_id_and_with_other_ids(work: Project) -> None:
    """Rows can only be matched by a column that names them, and by values of the same kind."""
    work.write("job.yaml", JOB.replace(", id: id", ""))
    refused = refreshed(work, code=2)
    assert "dataset.id: is needed for a refresh" in refused.err and work.executions == []
    assert work.batchrun("run", "job.yaml", "-q").code == 0
    assert not (work.executions[0] / "inputs.parquet").exists()  # only datasets with an id pay for being compared later
    shutil.rmtree(work.executions[0])
    work.write("job.yaml", JOB)
    refreshed(work)
    assert not (work.executions[0] / "removed.parquet").exists()
    work.write("data.csv", "id,text,size,other\n1,one,1,x\n2,two,2,x\n")
    ended = refreshed(work)
    assert "the ids were of type String and are of type Int64: all items count as new" in ended.err
    assert "2 new, 2 removed → 2 items in full" in ended.err


@pytest.mark.parametrize(
    "ids",
    [
        pl.Series([3, 1, 2], dtype=pl.Int16),
        pl.Series(["2026-01-01", "2026-01-02", "2026-01-03"]).str.to_date(),
        pl.Series(["2026-01-01 10:00", "2026-01-02 10:00", "2026-01-03 10:00"]).str.to_datetime(time_zone="Europe/Berlin"),
        pl.Series(["1.10", "2.20", "3.30"]).cast(pl.Decimal(10, 2)),
        pl.Series(["x", "y", "ü\n"], dtype=pl.Categorical),
        pl.Series([b"x", b"\xff", b""]),
        pl.Series([True, False]),
    ],
    ids=lambda series: str(series.dtype),
)
def test_ids_of_every_type(work: Project, ids: pl.Series) -> None:
    """Rows are found again whatever their ids are."""
    work.write("job.yaml", JOB.replace("data.csv", "data.parquet"))
    count = len(ids)
    work.table("data.parquet", {"id": ids, "text": ["t"] * count, "size": range(count)})
    refreshed(work)
    work.table("data.parquet", {"id": ids.reverse(), "text": ["t"] * (count - 1) + ["u"], "size": list(range(count))[::-1]})
    assert f"1 changed → 1 item in full, {count - 1:,} item" in refreshed(work).err
    assert [row["source_item_id"] for row in rows(work, 0).values()][::-1] == [row["source_item_id"] for row in rows(work).values()]
    assert [row["reused_from"] is None for row in rows(work).values()] == [False] * (count - 1) + [True]


def test_datasets_without_rows(work: Project) -> None:
    """From nothing to something and back."""
    head = "id,text,size,other\n"
    work.write("job.yaml", JOB.replace("id: id}", "id: id, schema: {id: string, text: string, size: int64, other: string}}"))
    work.write("data.csv", head)
    refreshed(work)
    assert "nothing new" in refreshed(work).err
    work.write("data.csv", FINE)
    assert "2 new → 2 items in full" in refreshed(work).err
    work.write("data.csv", head)
    assert "2 removed → 0 items reused" in refreshed(work).err
    assert rows(work) == {} and pq.read_table(work.executions[-1] / "removed.parquet").num_rows == 2


def test_named_datasets(work: Project) -> None:
    """`latest` is the version of now; the version is written down."""
    work.write("job.yaml", JOB.replace("path: data.csv", "name: tickets, version: latest"))
    assert work.batchrun("dataset", "add", "tickets", "data.csv", "--copy").code == 0
    refreshed(work)
    work.write("data.csv", FINE + "c,three,3,x\n")
    assert "nothing new" in refreshed(work).err
    assert work.batchrun("dataset", "add", "tickets", "data.csv", "--copy").code == 0
    assert "1 new → 1 item in full, 2 items reused" in refreshed(work).err
    assert (record(work)["dataset_version"], record(work, 0)["dataset_version"]) == (2, 1)


def test_a_trial_with_few_items_is_not_what_is_gone_on_from(work: Project) -> None:
    """`--limit 1` in between would otherwise make all other rows new ones."""
    refreshed(work)
    assert work.batchrun("run", "job.yaml", "--limit", "1", "-q").code == 0
    calls(work)
    assert "nothing new" in refreshed(work).err
    assert calls(work) == []


def test_edits_that_were_accepted_in_the_middle(work: Project) -> None:
    """Rows of before the edit are in a result whose record says what the workflow is since; they are not taken for rows of now."""
    work.write("data.csv", DATA)
    refreshed(work, code=3)
    work.write("steps.py", STEPS.replace("text.upper()", "text.title()").replace('text == "bad"', "not text"))
    assert work.batchrun("retry", "latest", "--accept-changes", "-q").code == 0
    assert [row["output"] for row in rows(work).values()] == ["ONE", "TWO", "Bad", "FOUR"]
    calls(work)
    assert "node classify edited → 4 items from classify on" in refreshed(work).err
    assert [row["output"] for row in rows(work).values()] == ["One", "Two", "Bad", "Four"]
    assert "nothing new" in refreshed(work).err


def test_rows_that_are_reused_are_no_successes_for_the_failure_policy(work: Project) -> None:
    """A thousand rows of yesterday must not hide that everything fails today."""
    work.write("job.yaml", JOB.replace("run: {", "run: {failure_policy: {max_failure_ratio: 0.5}, "))
    lines = "".join(f"i{at},text {at},0,x\n" for at in range(50))
    work.write("data.csv", "id,text,size,other\n" + lines)
    refreshed(work)
    work.write("data.csv", "id,text,size,other\n" + lines + "y,bad,0,x\nz,bad,0,x\n")
    assert "2 of 2 items failed" in refreshed(work, code=1).err
