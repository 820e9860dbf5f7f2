"""What `batchrun show` tells of executions and of their items: ended, running, killed, moved, damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal

import pytest

from batchrun.client import Execution
from batchrun.execution import submitted
from batchrun.execution.prepare import prepare
from batchrun.results import find_item
from tests.e2e.conftest import Calls, Project, ended
from tests.e2e.holding import cells, fields, files, held, is_kept, item, kill, page, release, shown, until, write

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
ERROR = "nothing can be made of \\u001b[2J this"


@pytest.fixture
def work(project: Project) -> Project:
    """A project with the job that holds items."""
    write(project)
    return project


@pytest.fixture
def done(work: Project) -> Project:
    """The same, with one execution that has ended."""
    release(work)
    (work.folder / "calls").touch()  # nobody listens
    assert work.batchrun("run", "job.yaml", "-q").code == 3
    return work


def test_a_page_says_how_an_execution_ended(done: Project) -> None:
    """Who comes back later sees what became of it, when, by whom, why items failed, and what can be done."""
    (execution,) = done.executions
    text = page(done)
    told = fields(text)
    assert (told["execution"], told["job"], told["status"]) == ([execution.name], ["held"], ["completed"])
    assert (told["dataset"], told["folder"]) == (["data.csv"], [f"runs/{execution.name}"])
    assert told["items"] == ["12 items: 11 completed, 1 failed"]
    assert re.fullmatch(TIME, told["created"][0]) and re.fullmatch(rf"{TIME}, after [\d.]+ s of work", told["ended"][0])
    pid = done.record["pid"]
    for line, status in zip(told["states"], ("running", "finalizing", "completed"), strict=True):
        assert re.fullmatch(rf"{TIME}  {status} +process {pid} on {os.uname().nodename}", line)
    assert ["fetch", "12", "0"] in [line[:3] for line in cells(text)]
    assert ["ValueError", "judge", "1", f"item 1: {ERROR}"] in cells(text)
    assert f"\nruns/{execution.name}/results.parquet\n" in text
    assert text.endswith(f"\nto run the failed items again: batchrun retry runs/{execution.name}\n")


def test_the_address_of_a_dataset_is_shown_as_it_is(done: Project) -> None:
    """It can be copied into a job, or given to another tool."""
    path = done.executions[0] / "execution.json"
    record = json.loads(path.read_text())
    record["job"]["dataset"]["path"] = "s3://bucket/rows.parquet"
    path.write_text(json.dumps(record))
    assert fields(page(done))["dataset"] == ["s3://bucket/rows.parquet"]


def test_nodes_are_shown_with_their_calls_and_times(done: Project) -> None:
    """Each node has its line, in the order of the job, with the numbers of the record."""
    header, *columns = cells(page(done, "--nodes").partition("\n\n")[2])
    counts, times = ("calls", "attempts", "completed", "failed", "skipped"), ("mean ms", "p50 ms", "p95 ms", "p99 ms", "max ms")
    assert header == ["node", "type", *counts, *times, "open now"]
    assert [row[:7] for row in columns] == [
        ["fetch", "python", "12", "12", "12", "0", "0"],
        ["judge", "python", "12", "12", "11", "1", "0"],
    ]
    assert [float(row[7]) <= float(row[11]) + 0.1 and row[12] == "0" for row in columns] == [True, True]
    assert [float(row[8]) <= float(row[9]) <= float(row[10]) <= float(row[11]) + 0.1 for row in columns] == [True, True]
    nodes = shown(done, "--nodes")["nodes"]
    assert nodes == [{**node, "open_items": 0} for node in done.record["totals"]["nodes"]]


def test_programs_get_the_record_with_its_progress(done: Project) -> None:
    """The JSON is the record and how far it is; nothing else is on any stream."""
    content = shown(done, done.executions[0].name)
    progress = content.pop("progress")
    assert content == done.record
    assert {name: progress[name] for name in ("total_items", "processed_items", "failed_items", "open_items")} == {
        "total_items": 12,
        "processed_items": 12,
        "failed_items": 1,
        "open_items": 0,
    }
    assert {"items_per_second", "remaining_seconds", "waiting_for", "open_nodes"} <= progress.keys()


def test_an_item_is_shown_with_all_that_was_done_for_it(done: Project) -> None:
    """Inputs, outputs and the whole error are there, and none of it can do anything to a terminal."""
    failed = page(done, "--item", "item 1")
    told = fields(failed)
    assert (told["item"], told["status"], told["attempts"], told["kept"]) == (["item 1"], ["failed at node judge"], ["1"], ["size: 1"])
    assert "\nerror    ValueError: nothing can be\n         made of \\u001b[2J this\n         (retryable)\n" in failed
    assert 'steps.py", line' in failed and "raise ValueError(" in failed
    assert "\nnode fetch (python): completed, 1 attempt, " in failed
    assert '\n  input    {"size": 1}\n  output   {"size": 1, "text": "one line\\nand \\u001b[31manother"}\n' in failed
    assert "\nnode judge (python): failed, 1 attempt, " in failed
    completed = page(done, "--item", "item 7")
    assert "\noutput   7 is old\n" in completed and "error" not in completed
    row = item(done, "item 7")
    (wanted,) = (line for line in done.batchrun("results", "--head", "99", "--json").out.splitlines() if '"item 7"' in line)
    assert row == json.loads(wanted)
    unknown = done.batchrun("show", "--item", "7")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == f"Error: there is no item '7' in {done.executions[0]}; an id there is: 'item 0'\n"
    assert done.batchrun("show", "--item", "item 1", "--nodes").code == 2


def test_a_running_execution_says_what_it_is_doing(work: Project, calls: Calls) -> None:
    """While it runs: how far it is, where its items are and what they wait for; and each item as far as it is."""
    with held(work, calls):
        until(lambda: Execution(work.executions[0]).progress.open_nodes.get("judge") == 4)
        text = page(work)
        told = fields(text)
        assert (told["status"], told["items"]) == (["running"], ["12 items: 5 completed, 1 failed, 6 not done"])
        assert re.fullmatch(r"50\.0% after .* s, [\d.]+ items/s, about .* left", told["progress"][0])
        assert (told["open"], told["waiting"]) == (["4 items: 4 at judge"], ["4 in a call"])
        assert "ended" not in told
        assert f"item 1: {ERROR}" in text
        assert text.endswith(f"\nto watch it: batchrun watch runs/{work.executions[0].name}\n")
        nodes = {node["node_id"]: node for node in shown(work, "--nodes")["nodes"]}
        assert (nodes["judge"]["calls"], nodes["judge"]["failed"], nodes["judge"]["open_items"]) == (6, 1, 4)

        assert (item(work, "item 5")["status"], item(work, "item 5")["output"]) == ("completed", "5 is old")
        assert item(work, "item 1")["error"]["type"] == "ValueError"
        until(lambda: is_kept(work, "item 9"))
        begun = item(work, "item 9")
        assert (begun["status"], begun["item_index"], begun["size"], begun["output"]) == ("running", 9, 9, None)
        assert [(node["node_id"], node["status"], node["output"]["size"]) for node in begun["node_executions"]] == [
            ("fetch", "completed", 9)
        ]
        assert fields(page(work, "--item", "item 9"))["status"] == ["open: it has not ended, 1 node of it did"]
        assert item(work, "item 11")["status"] == "pending"
        assert work.batchrun("show", "--item", "item 12").err.endswith("; an id there is: 'item 0'\n")


def test_a_killed_execution_is_shown_from_its_journal(work: Project, calls: Calls) -> None:
    """There is no result, and yet what was done is all there: counts, nodes, failures and items. Looking changes nothing."""
    with held(work, calls) as process:
        until(lambda: is_kept(work, "item 9"))
        kill(process)
    (execution,) = work.executions
    before = files(execution)
    text = page(work)
    told = fields(text)
    assert told["status"] == [f"interrupted: its process is gone; to go on: batchrun resume runs/{execution.name}"]
    assert told["items"] == ["12 items: 5 completed, 1 failed, 6 not done"]
    assert re.fullmatch(TIME, told["last seen"][0]) and not {"open", "progress", "ended"} & told.keys()
    assert f"item 1: {ERROR}" in text and "cut off" not in text
    assert [(node["calls"], node["open_items"]) for node in shown(work, "--nodes")["nodes"]] == [(6, 0), (6, 0)]
    assert shown(work)["status"] == "interrupted" and shown(work)["progress"]["open_items"] == 0
    assert item(work, "item 0")["output"] == "0 is old"
    assert "a resume goes on from there" in fields(page(work, "--item", "item 9"))["status"][0]
    assert files(execution) == before
    release(work)
    assert work.batchrun("resume", "-q").code == 3
    assert fields(page(work))["status"] == ["completed"]


def test_a_moved_folder_that_is_in_no_list_is_shown_as_far_as_it_says(work: Project, calls: Calls) -> None:
    """A folder is enough, wherever it is; as is an older one that does not say how many items there are."""
    with held(work, calls) as process:
        until(lambda: is_kept(work, "item 9"))
        kill(process)
    (execution,) = work.executions
    shutil.copytree(execution, work.folder / "else where")
    shutil.rmtree(work.folder / ".batchrun")
    shutil.rmtree(execution)
    told = fields(page(work, "else where"))
    assert told["status"] == ["interrupted: its process is gone; to go on: batchrun resume 'else where'"]
    assert told["folder"] == [f"else where, moved or copied from {execution}"]
    assert told["items"] == ["12 items: 5 completed, 1 failed, 6 not done"]
    assert item(work, "item 5", "else where")["status"] == "completed"
    assert len(item(work, "item 9", "else where")["node_executions"]) == 1
    record = json.loads((work.folder / "else where" / "execution.json").read_text())
    (work.folder / "else where" / "execution.json").write_text(json.dumps(record | {"total_items": None}))
    assert fields(page(work, "else where"))["items"] == ["5 completed, 1 failed; how many there are in all is not known"]
    (work.folder / "data.csv").unlink()
    assert item(work, "item 5", "else where")["status"] == "completed"
    gone = work.batchrun("show", "else where", "--item", "item 9")
    assert gone.code == 1 and "no item 'item 9' has ended in" in gone.err and "the dataset cannot be read: " in gone.err


def test_what_was_done_after_a_pause_is_not_hidden_by_the_result_of_the_pause(work: Project, calls: Calls) -> None:
    """The result of a pause is out of date as soon as the execution goes on, and stays so when that ends in a kill."""
    with held(work, calls) as process:
        process.send_signal(signal.SIGINT)
        assert ended(process).code == 130
    told = fields(page(work))
    assert (told["status"], told["why"]) == (["paused, by signal"], ["stopped by SIGINT"])
    assert item(work, "item 7")["status"] == "cancelled"
    assert fields(page(work, "--item", "item 7"))["status"] == ["cancelled: it was not run to its end"]
    with held(work, calls, "resume", earlier_calls=4) as process:
        (work.folder / "release-6").touch()
        until(lambda: find_item(work.executions[0], "item 6", from_journal=True).row["status"] == "completed")
        assert "results.parquet   of an earlier end; it is written anew when the execution ends\n" in page(work)
        kill(process)
    assert item(work, "item 6")["output"] == "6 is old"
    assert (item(work, "item 7")["status"], item(work, "item 7")["node_executions"][0]["node_id"]) == ("running", "fetch")
    assert fields(page(work))["items"] == ["12 items: 6 completed, 1 failed, 5 not done"]


def test_an_execution_that_has_not_begun_is_shown(work: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was submitted says that it waits, and how to begin it by hand."""
    monkeypatch.chdir(work.folder)
    name = "20261101T093000-0a1b2c3d4e"
    submitted(prepare("job.yaml"), name, work.folder / "runs" / name)
    text = page(work)
    told = fields(text)
    assert (told["status"], told["items"]) == (["pending: no process has taken it on yet"], ["not counted yet"])
    assert text.endswith(f"\nto watch it: batchrun watch runs/{name}\nif no process takes it on: batchrun resume runs/{name}\n")
    assert "nothing is written down of its nodes so far" in page(work, "--nodes")
    assert (shown(work)["status"], shown(work)["progress"]["total_items"]) == ("pending", 0)
    assert item(work, "item 3")["status"] == "pending"


def test_a_record_of_an_older_version_is_shown_as_far_as_it_goes(done: Project) -> None:
    """Fields that an older version did not write are left out; nothing fails for want of them."""
    (execution,) = done.executions
    needed = ("execution_id", "job_name", "status", "states", "totals")
    for kept in ({}, {"job": {}, "started_at": "soon", "job_folder": "/nowhere"}):
        record = {name: value for name, value in done.record.items() if name in needed} | kept
        (execution / "execution.json").write_text(json.dumps(record))
        assert fields(page(done))["items"] == ["12 items: 11 completed, 1 failed"]
        assert "judge" in page(done, "--nodes")
        assert item(done, "item 7")["output"] == "7 is old"
        assert shown(done)["progress"]["processed_items"] == 12


def test_an_execution_without_a_journal_says_so(work: Project, calls: Calls) -> None:
    """Who chose speed over durability is not told that items are open which may have ended long ago."""
    process = work.start("run", "job.yaml", "--set", "run.durable=false")
    calls.wait_for(4)
    kill(process)
    ended(process)
    last = work.batchrun("show", "--item", "item 0")
    assert (last.code, last.out) == (1, "") and "has neither a journal nor a result" in last.err
    told = fields(page(work))
    assert told["status"] == [
        f"interrupted: its process is gone; nothing was kept; to run its job again: batchrun rerun runs/{work.executions[0].name}"
    ]
    assert "batchrun resume" not in page(work)


@pytest.mark.parametrize("content", [b"", b'{"execution_id": "2026', b"[1]", b"{}", b"\xff\x00"])
def test_a_damaged_record_is_named(done: Project, content: bytes) -> None:
    """The file, and what to do about it; never a traceback."""
    (execution,) = done.executions
    (execution / "execution.json").write_bytes(content)
    for arguments in (("show",), ("show", "--item", "item 1"), ("show", "--json"), ("watch",)):
        last = done.batchrun(*arguments)
        assert (last.code, last.out) == (1, "")
        assert last.err.startswith(f"Error: {execution}/execution.json is ") and "put back a copy of it" in last.err
        assert "Traceback" not in last.err
