"""Refreshes that are killed, that meet one another, and that lose what they are based on."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

import batchrun
from batchrun.core.ids import new_execution_id
from batchrun.execution import submitted
from batchrun.execution.prepare import prepare
from tests.e2e.conftest import PATIENCE_SECONDS, Project

STEPS = """\
import time
from pathlib import Path


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


def first(size: int) -> int:
    note(f"first {size}")
    return size


async def second(size: int) -> int:
    import asyncio
    note(f"second {size}")
    while size >= 90 and Path("hold").exists():
        await asyncio.sleep(0.01)
    return size + 1
"""
JOB = """\
name: held
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: first, type: python, call: "steps:first", inputs: {size: "{{ item.size }}"}}
    - {id: second, type: python, call: "steps:second", inputs: {size: "{{ nodes.first.output }}"}}
run: {parallelism: 4, retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""


@pytest.fixture
def work(project: Project) -> Project:
    """A completed execution of 60 items; while the file `hold` is there, items from 90 on do not end."""
    project.write("steps.py", STEPS)
    project.write("job.yaml", JOB)
    data(project, range(60))
    assert project.batchrun("refresh", "job.yaml", "-q").code == 0
    calls(project)
    return project


def data(work: Project, ids: Any) -> None:
    sizes = list(ids)
    work.table("data.parquet", {"id": [f"item {size}" for size in sizes], "size": pl.Series(sizes, dtype=pl.Int64)})


def calls(work: Project) -> list[str]:
    log = work.folder / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def started(work: Project, *arguments: str) -> subprocess.Popen[str]:
    """A refresh that has come to items that do not end."""
    process = work.start("refresh", "job.yaml", "-q", *arguments)
    log, deadline = work.folder / "log", time.monotonic() + PATIENCE_SECONDS
    while not (log.exists() and "second 9" in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def check(work: Project, expected: list[int], base: str) -> None:
    """One row for each item, in order, each with what its item gives."""
    table = pq.read_table(work.executions[-1] / "results.parquet")
    assert table["size"].to_pylist() == expected
    assert table["output"].to_pylist() == [size + 1 for size in expected]
    assert table["item_index"].to_pylist() == list(range(len(expected)))
    assert table["reused_from"].to_pylist() == [base if size < 60 else None for size in expected]


def test_killed_in_the_middle_and_resumed_without_its_base(work: Project) -> None:
    """What was carried over is in the journal of the refresh: it needs neither the earlier folder nor the calls that had ended."""
    base = work.executions[0].name
    work.write("hold", "")
    sizes = [90, *range(10, 60), *range(70, 90), *range(91, 100)]
    data(work, sizes)
    process = started(work)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "second 89" not in (work.folder / "log").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    shutil.rmtree(work.executions[0])
    (work.folder / "hold").unlink()
    calls(work)
    shown = json.loads(work.batchrun("show", "--json").out)
    assert (shown["status"], shown["refresh_of"], shown["refresh"]["reused_items"]) == ("interrupted", base, 50)
    ended = work.batchrun("resume", "latest")
    assert ended.code == 0 and "50 of them reused" in ended.err
    check(work, sizes, base)
    assert all(int(call.split()[1]) >= 60 for call in calls(work))
    record = json.loads((work.executions[0] / "execution.json").read_text())
    assert (record["totals"]["reused_items"], record["totals"]["completed_items"]) == (50, len(sizes))


def test_two_at_once(work: Project) -> None:
    """A schedule that fires too early does no harm, and is no failure; nor is one beside a refresh in a process of its own."""
    work.write("hold", "")
    data(work, [*range(60), 90])
    process = started(work)
    second = work.batchrun("refresh", "job.yaml")
    assert (second.code, len(work.executions)) == (0, 2) and "held is being refreshed by process" in second.err
    (work.folder / "hold").unlink()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    check(work, [*range(60), 90], work.executions[0].name)
    assert "nothing new" in work.batchrun("refresh", "job.yaml").err


def test_in_a_process_of_its_own(work: Project) -> None:
    """What will be done is said here, and the id is all that programs get; nothing new starts no process."""
    work.write("more", "")
    first = work.batchrun("refresh", "job.yaml").code
    assert first == 0
    data(work, [*range(60), 90])
    begun = work.batchrun("refresh", "job.yaml", "--detach")
    assert begun.code == 0 and "1 new" in begun.err and "batchrun watch" in begun.err
    assert work.batchrun("watch", begun.out.strip()).code == 0
    assert begun.out.strip() == work.executions[-1].name
    again = work.batchrun("refresh", "job.yaml", "-d")
    assert (again.code, again.out) == (0, "") and "nothing new" in again.err and len(work.executions) == 2
    assert work.batchrun("refresh", "job.yaml", "-d", "--plan").code == 2


def test_another_refresh_after_one_that_was_killed(work: Project) -> None:
    """A crash does not block those that come after it; people are told of it."""
    work.write("hold", "")
    data(work, [*range(60), 90])
    process = started(work)
    process.kill()
    process.communicate()
    (work.folder / "hold").unlink()
    again = work.batchrun("refresh", "job.yaml")
    assert again.code == 0 and f"the refresh {work.executions[1].name} is interrupted: batchrun resume" in again.err
    check(work, [*range(60), 90], work.executions[0].name)


@pytest.mark.parametrize("is_base_there", [True, False])
def test_one_that_was_killed_before_it_had_taken_anything_over(work: Project, *, is_base_there: bool) -> None:
    """It is compared again; without what it is based on it is refused in words that help."""
    base, id = work.executions[0], new_execution_id()
    data(work, range(61))
    about = {"base_id": base.name, "base_folder": str(base)}
    folder = base.with_name(id)
    submitted(prepare(work.folder / "job.yaml"), id, folder, refresh_of=base.name, refresh=about, store=str(work.folder / ".batchrun"))
    (folder / "journal").mkdir()
    (folder / "journal/000001.journal").write_bytes(b"half of what was to be carried over")
    if not is_base_there:
        shutil.rmtree(base)
    ended = work.batchrun("resume", str(folder), "-q")
    if is_base_there:
        assert ended.code == 0, ended.err
        check(work, list(range(61)), base.name)
        assert sorted(calls(work)) == ["first 60", "second 60"]
    else:
        assert ended.code == 1 and f"was to reuse results of {base.name}, which are not in" in ended.err
        assert calls(work) == []


def test_a_frame_of_many_rows_in_another_order(work: Project) -> None:
    """More rows than fit one frame or one row group, backwards, with kept columns that changed."""
    count = 70_000
    work.write("steps.py", STEPS.replace("    note(f", "    str(f"))
    ids = [f"item {at}" for at in range(count)]
    work.table("data.parquet", {"id": ids, "size": range(count), "more": range(count)})
    work.write("job.yaml", JOB.replace("[size]", "[size, more]").replace("    - {id: second", "#").replace("async", ""))
    assert work.batchrun("refresh", "job.yaml", "-q").code == 0
    base = work.executions[-1].name
    order = pl.Series(range(count)).reverse()
    work.table("data.parquet", {"id": [ids[at] for at in order], "size": order, "more": [at + at % 2 for at in order]})
    ended = work.batchrun("refresh", "job.yaml")
    assert ended.code == 0 and "35,000 with other kept columns → 70,000 items reused" in ended.err
    table = pq.read_table(work.executions[-1] / "results.parquet")
    assert table["source_item_id"].to_pylist() == ids[::-1]
    assert table["output"].to_pylist() == table["size"].to_pylist() == order.to_list()
    assert table["more"].to_pylist() == [at + at % 2 for at in order]
    assert set(table["reused_from"].to_pylist()) == {base}


def test_from_python(work: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process, in one of its own, and from an event loop."""
    monkeypatch.chdir(work.folder)
    monkeypatch.setenv("BATCHRUN_HOME", str(work.folder / ".batchrun"))
    job = "job.yaml"
    base = work.executions[0]
    assert batchrun.refresh(job, quiet=True).folder == base.resolve()
    data(work, range(61))
    plan = batchrun.plan_refresh(job)
    assert (plan.base_id, plan.new_items, plan.reused_items, plan.has_work) == (base.name, 1, 60, True)
    plans: list[batchrun.RefreshPlan] = []
    first = batchrun.refresh(job, quiet=True, on_plan=plans.append)
    assert (first.status, first.progress.reused_items, first.record["refresh_of"]) == ("completed", 60, base.name) and plans == [plan]
    data(work, range(62))
    with batchrun.Client() as client:
        second = client.refresh(job)
        assert (second.wait(timeout_seconds=PATIENCE_SECONDS), second.progress.reused_items) == ("completed", 61)
        assert client.refresh(job).id == second.id

    async def refresh() -> str:
        async with batchrun.AsyncClient() as client:
            return (await client.refresh(job)).id

    assert asyncio.run(refresh()) == second.id
    with pytest.raises(batchrun.JobError, match="a refresh compares files"):
        batchrun.refresh(batchrun.Job(dataset=pl.DataFrame({"a": [1]}), workflow=str))
    assert Path(second.record["refresh"]["base_folder"]) == first.folder
