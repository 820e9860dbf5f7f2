"""The list of executions, and what becomes of it when its file or their folders are lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batchrun.cli import cli
from tests.e2e.conftest import Project
from tests.e2e.held import ITEMS, held, held_job, until


def listed(project: Project, *arguments: str) -> list[dict[str, Any]]:
    """The executions that a program is told of; nothing is told to people."""
    ended = project.batchrun("list", "--json", *arguments)
    assert ended.code == 0, ended.err
    executions: list[dict[str, Any]] = json.loads(ended.out)
    return executions


def ids(project: Project, *arguments: str) -> list[str]:
    return [execution["execution_id"] for execution in listed(project, *arguments)]


def run(project: Project, *settings: str, code: int = 0) -> Path:
    """Run the job; returns the folder of its execution."""
    ended = project.batchrun("run", "job.yaml", "--quiet", "--json", *(part for setting in settings for part in ("--set", setting)))
    assert ended.code == code, ended.err
    return Path(json.loads(ended.out)["folder"])


def test_a_list_shows_what_each_execution_is_and_how_far(project: Project) -> None:
    """One line each, newest first, for people; and their records for programs, without the jobs."""
    first = run(project)
    project.write("data.csv", "id,text,size\na,bad,1\nb,two,2\n")
    second = run(project, "name=other job", code=3)
    stopped = run(project, "run.budget.max_calls=1", code=4)
    shown = project.batchrun("list")
    assert (shown.code, shown.err) == (0, "")
    header, *lines = [line.split("  ") for line in shown.out.splitlines()]
    assert [cell.strip() for cell in header if cell] == ["id", "job", "status", "items", "failed", "started", "duration"]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    assert [line[:5] for line in cells] == [
        [stopped.name, "small", "paused", "1/2", "1"],
        [second.name, "other job", "completed", "2/2", "1"],
        [first.name, "small", "completed", "3/3", "0"],
    ]
    assert all(line[6].endswith(" s") for line in cells)
    records = listed(project)
    assert [record["folder"] for record in records] == [str(stopped), str(second), str(first)]
    for record, folder in zip(records, (stopped, second, first), strict=True):
        written = json.loads((folder / "execution.json").read_text())
        progress = record.pop("progress")
        assert record == {name: value for name, value in written.items() if name != "job"}
        assert (progress["total_items"], progress["processed_items"]) == (
            2 if folder is not first else 3,
            written["totals"]["processed_items"],
        )


def test_a_list_is_filtered_by_status_job_and_time(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each filter narrows down what is listed, alone and together; a wrong one says what is allowed."""
    monkeypatch.chdir(project.folder)

    def list_here(*arguments: str) -> Result:  # in this process: a new one for each filter takes long
        return CliRunner().invoke(cli, ["list", *arguments])

    first = run(project)
    second = run(project, "name=triage-7", "run.budget.max_calls=1", code=4)
    third = run(project, "name=triage-8")
    second_at, third_at = (record["created_at"] for record in listed(project)[1::-1])
    for arguments, expected in {
        (): [third, second, first],
        ("--status", "completed"): [third, first],
        ("--status", "paused", "--status", "failed"): [second],
        ("--status", "interrupted"): [],
        ("--job", "small"): [first],
        ("--job", "triage"): [],
        ("--job", "triage*"): [third, second],
        ("--job", "triage*", "--status", "completed"): [third],
        ("--since", second_at): [third, second],
        ("--until", second_at): [first],
        ("--since", second_at, "--until", third_at): [second],
        ("--since", "now()-7d"): [third, second, first],
        ("--since", "2h", "--until", "now()"): [third, second, first],
        ("--until", "yesterday"): [],
        ("--limit", "2"): [third, second],
        ("--limit", "1", "--status", "paused"): [second],
    }.items():
        found = [record["execution_id"] for record in json.loads(list_here("--json", *arguments).stdout)]
        assert found == [folder.name for folder in expected], arguments
    assert list_here("--job", "triage").stderr == "no execution matches\n"
    assert list_here("--limit", "2").stderr == "the newest 2; for more: --limit\n"
    assert list_here("--limit", "3").stderr == ""
    for arguments, sentence in {
        ("--status", "done"): "'interrupted'",
        ("--since", "last week"): "'last week' is not a time; allowed are a time ago (90s, 30m, 12h, 7d, 2w, 1d12h, now()-7d)",
        ("--limit", "0"): "--limit",
    }.items():
        refused = list_here(*arguments)
        assert (refused.exit_code, refused.stdout) == (2, "") and sentence in refused.stderr


def test_a_killed_runner_is_seen_as_interrupted(project: Project) -> None:
    """What runs is told from what only says so: a process that is gone is not waited for."""
    with held_job(project) as work:
        process, id = held(work)
        until(lambda: listed(work)[0]["progress"]["total_items"] == ITEMS)
        assert [record["status"] for record in listed(work, "--status", "running")] == ["running"]
        shown = work.batchrun("list").out.splitlines()[1]
        assert shown.startswith(f"{id}  held  running  ") and " 0/40 " in shown and shown.endswith(" items/s")
        process.kill()
        process.communicate()
        assert ids(work, "--status", "running") == []
        (record,) = listed(work, "--status", "interrupted")
        assert (record["execution_id"], record["status"], record["progress"]["total_items"]) == (id, "interrupted", 40)
        assert f"{id}  held  interrupted, resumable  " in work.batchrun("list").out
        (work.folder / "release").touch()
        assert work.batchrun("resume").code == 0
        assert [record["status"] for record in listed(work)] == ["completed"]


def test_the_list_can_be_deleted_and_rebuilt(project: Project) -> None:
    """The list is an index: without its file nothing is lost, and one command makes it anew."""
    folders = [run(project), run(project, "run.budget.max_calls=1", code=4)]
    before = listed(project)
    shutil.rmtree(project.folder / ".batchrun")
    empty = project.batchrun("list")
    assert (empty.code, empty.out) == (0, "")
    assert empty.err == "no executions are listed, but runs has 2: to list them, batchrun list --rebuild --runs runs\n"
    assert listed(project) == []
    assert project.batchrun("results", folders[0].name[:21], "--json").code == 0
    rebuilt = project.batchrun("list", "--rebuild", "--json")
    assert (rebuilt.code, rebuilt.err) == (0, "listed anew: 2 executions\n")
    after = json.loads(rebuilt.out)
    for record in (*before, *after):
        record["progress"] = {
            name: count for name, count in record["progress"].items() if name.endswith("_items") and name != "restored_items"
        }
    assert after == before
    nothing = project.batchrun("list", "--runs", "elsewhere", "--status", "failed")
    assert (nothing.out, nothing.err) == ("", "no execution matches\n")


def test_a_rebuild_keeps_what_it_knew_and_passes_over_what_is_broken(project: Project) -> None:
    """A damaged folder is named and costs no other its place; folders elsewhere stay listed, moved ones are found where they are."""
    kept, elsewhere, moved, gone, damaged, odd = (run(project, *settings) for settings in [(), ("output.path=out",), (), (), (), ()])
    moved.rename(project.folder / "runs" / "my best")
    shutil.rmtree(gone)
    (damaged / "execution.json").write_bytes((damaged / "execution.json").read_bytes()[:100])
    (odd / "execution.json").write_text("[]")
    (empty := project.folder / "runs" / "20261101T093000-0a1b2c3d4e").mkdir()
    (project.folder / "runs" / "notes.txt").touch()
    assert ids(project) == [elsewhere.name, kept.name]
    rebuilt = project.batchrun("list", "--rebuild", "--json")
    assert rebuilt.code == 0, rebuilt.err
    records = json.loads(rebuilt.out)
    assert [record["execution_id"] for record in records] == [moved.name, elsewhere.name, kept.name]
    *notes, count = rebuilt.err.splitlines()
    assert count == "listed anew: 3 executions"
    assert len(notes) == 5 and all(note.startswith("left out: ") for note in notes)
    for folder, problem in {
        gone: "there is no",
        damaged: "is damaged",
        odd: "is not the record",
        empty: "there is no",
        moved: "there is no",
    }.items():
        assert sum(str(folder) in note and problem in note for note in notes) == 1, rebuilt.err
    assert Path(project.batchrun("results", moved.name, "--export", "csv").out) == Path("runs/my best/results.csv\n")


@pytest.mark.parametrize("content", [b"", b"not a store" * 1000], ids=["empty", "damaged"])
def test_a_store_that_cannot_be_read_says_what_to_do(project: Project, content: bytes) -> None:
    """A broken list does not hold up the executions: they are found in their folder, and the list is made anew."""
    folder = run(project)
    (project.folder / ".batchrun" / "store.db").write_bytes(content)
    if content:
        refused = project.batchrun("list")
        assert refused.code == 1 and "nothing is lost: delete it and run `batchrun list --rebuild`" in refused.err
    assert project.batchrun("results", folder.name, "--json").code == 0
    (project.folder / ".batchrun" / "store.db").unlink()
    assert project.batchrun("list", "--rebuild").err == "listed anew: 1 execution\n"
    assert ids(project) == [folder.name]


def test_an_execution_that_is_told_of_nowhere_is_no_error(project: Project) -> None:
    """Before the first run there is nothing to list, and nothing is made by looking."""
    nothing = project.batchrun("list")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no executions are listed, and there are none in runs\n")
    assert listed(project) == []
    assert not (project.folder / ".batchrun").exists()
