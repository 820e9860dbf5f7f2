"""Runners that die: killed at any moment, on a full disk, with a torn journal. What is promised is read from a log of every call."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchrun import Execution
from batchrun.results import Recovered
from batchrun.results.journal import AGAIN, frames
from tests.e2e.conftest import Project, ended
from tests.e2e.killing import QUICK_JOB, STEPS, chaos
from tests.e2e.tampering import CLOCK, UNNAMED


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def is_written(path: Path, since_ns: int, size: int) -> bool:
    """Whether more than `size` bytes of the file have been written since a time."""
    return path.exists() and path.stat().st_mtime_ns > since_ns and path.stat().st_size > size


def damaged(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The ways in which the end of a file is lost."""
    for count in (20, 300):
        yield f"cut {count}", content[:-count]
        yield f"zero {count}", content[:-count] + bytes(count)
    for at in (1, 170):
        yield f"flip {at}", content[:-at] + bytes([content[-at] ^ 0x10]) + content[len(content) - at + 1 :]


@pytest.mark.parametrize("seed", [3])
def test_any_kill_costs_only_the_calls_in_flight(project: Project, seed: int) -> None:
    """However often and whenever its runner is killed, an execution ends with a row per item and repeats next to nothing."""
    work, moments = chaos(project, 1_500), random.Random(seed)  # noqa: S311
    arguments = ["run", "job.yaml"]
    while len(work.killed_at) < 9 and work.kill_at_work(moments.uniform(0.15, 1.0), *arguments):
        arguments = ["resume", str(work.folder)]
    assert len(work.killed_at) > 5
    last = work.resume()
    assert last.code in (0, 3), last.err  # the last kill may have come too late
    work.check_result()
    repeated = work.repeated()
    assert sum(repeated.values()) < len(work.calls()) / 2
    files, log = files_of(work.folder), len(work.calls())
    assert work.resume().code == 0
    assert (files_of(work.folder), len(work.calls())) == (files, log)


def has_chosen(journal: Path) -> bool:
    """Whether a retry has written down in this journal which items it runs again."""
    return any(frame.kind == AGAIN for frame in frames(memoryview(journal.read_bytes())))


@pytest.mark.parametrize("seed", [5])
def test_any_kill_of_a_retry_costs_only_the_calls_in_flight(project: Project, seed: int) -> None:
    """A retry, and each resume of it, may be killed at any moment: no node that completed is called again, and no choice is forgotten."""
    work, moments = chaos(project, 400), random.Random(seed)  # noqa: S311
    down = project.write("down", "")
    assert project.batchrun("run", "job.yaml").code == 3
    assert work.check_totals(work.folder, work.items) is None
    down.unlink()
    before = len(work.calls())
    process = project.start("retry", str(work.folder), "--set", "run.parallelism=3")
    assert work.kill(process, lambda: len(work.journals) > 1 and has_chosen(work.journals[-1]), moments.uniform(0, 0.6))
    while len(work.killed_at) < 6 and work.kill_at_work(moments.uniform(0, 0.8), "resume", str(work.folder)):
        pass
    assert len(work.killed_at) > 2
    last = work.resume()
    assert last.code in (0, 3), last.err  # as above
    work.check_result(attempts=2)
    assert {call.node for call in work.calls()[before:]} == {"judge"}
    assert sum(work.repeated(since=before).values()) < work.items / 2


def test_a_kill_while_the_result_is_written_repeats_no_call(project: Project) -> None:
    """When all items are done, only the result has to be written again, as often as that is cut short."""
    work = chaos(project, 20_000, QUICK_JOB, BYTES=1_000)
    unnamed = project.write("unnamed", "")
    project.write("steps.py", (project.folder / "steps.py").read_text() + UNNAMED)
    process = project.start("run", "job.yaml")
    assert work.kill(process, lambda: work.kept() == work.items)
    unfinished = work.folder / ".results.parquet.tmp"
    for size in (0, 5_000_000, 15_000_000):
        begun = time.time_ns()
        process = project.start("resume", str(work.folder))
        assert work.kill(process, lambda begun=begun, size=size: is_written(unfinished, begun, size))
        assert not (work.folder / "results.parquet").exists()
    unnamed.unlink()
    last = work.resume()
    assert last.code == 0, last.err
    assert len(work.calls()) == work.items and not work.repeated()
    rows = project.result.select(["item_index", "status", "output"]).to_pylist()
    assert [(row["item_index"], row["status"], row["output"].partition(" is ")[0]) for row in rows] == [
        (at, "completed", str(at)) for at in range(work.items)
    ]
    work.check_totals(work.folder, 0)


def test_a_damaged_tail_of_the_journal_costs_what_it_held(project: Project, tmp_path: Path) -> None:
    """Cut, zeroed and flipped bytes are noticed, told and left out; no row is ever made from them."""
    work = chaos(project, 300)
    work.kill_once_kept(50)
    whole = work.journals[-1].read_bytes()
    for name, content in damaged(whole):
        assert content != whole, name
        copy = tmp_path / name.replace(" ", "-") / "runs" / work.folder.name
        shutil.copytree(work.folder, copy)
        (copy / "journal" / work.journals[-1].name).write_bytes(content)
        process = project.start("resume", str(copy))
        last = ended(process)
        assert last.code == 3, (name, last.err)
        assert "cut off or damaged" in last.err, (name, last.err)
        work.check_result(copy)
        assert work.calls_of(process) < work.items * 3, name


def test_an_execution_has_one_runner(project: Project) -> None:
    """Who resumes what is being run is told by whom, and disturbs nothing."""
    work = chaos(project, 100)
    hold = project.write("hold", "")
    process = project.start("run", "job.yaml")
    while not work.calls() and process.poll() is None:
        time.sleep(0.01)
    second = work.resume()
    assert second.code == 1, second.err
    assert str(process.pid) in second.err
    assert socket.gethostname() in second.err
    hold.unlink()
    assert ended(process).code == 3
    work.check_result()
    assert {call.pid for call in work.calls()} == {process.pid}


def test_a_copied_folder_goes_on_without_the_original(project: Project, tmp_path: Path) -> None:
    """An execution is its folder: it goes on wherever that is, and what it was copied from stays as it was."""
    work = chaos(project, 400)
    work.kill_once_kept(100)
    copy = tmp_path / "elsewhere" / "runs" / "moved"
    shutil.copytree(work.folder, copy)
    before = files_of(work.folder)
    last = project.batchrun("resume", str(copy))
    assert last.code == 3, last.err
    work.check_result(copy)
    work.repeated()
    assert files_of(work.folder) == before
    assert work.resume().code == 3
    work.check_result()


def test_edited_code_is_refused_until_it_is_accepted(project: Project) -> None:
    """A result never mixes two versions of a function unawares; when told to, open items get the new one."""
    work = chaos(project, 400)
    work.kill_once_kept(100)
    before, done = work.calls(), {item for item, is_done in enumerate(Recovered(work.folder).done) if is_done}
    project.write("steps.py", STEPS.replace("is old", "is much newer"))
    refused = work.resume()
    assert refused.code in (1, 2)
    assert "judge" in refused.err
    assert "--accept-changes" in refused.err
    assert len(work.calls()) == len(before)
    accepted = work.resume("--accept-changes")
    assert accepted.code == 3, accepted.err
    rows = work.check_result(answers=("is old", "is much newer"))
    work.repeated()
    kept = {row["item_index"] for row in rows if row["output"] and row["output"].endswith("old")}
    assert kept == {item for item in done if item % 13 != 12}


def test_a_changed_dataset_is_refused(project: Project) -> None:
    """Rows of another file under the ids of this one would be wrong in silence."""
    work = chaos(project, 400)
    work.kill_once_kept(20)
    project.table("data.parquet", {"id": [f"item {at}" for at in range(400)], "size": range(1, 401)})
    calls = len(work.calls())
    refused = work.resume()
    assert refused.code in (1, 2)
    assert "data.parquet" in refused.err or "dataset" in refused.err
    assert len(work.calls()) == calls


def test_a_full_disk_stops_the_execution_and_room_lets_it_go_on(project: Project) -> None:
    """What the journal cannot hold is not run; with room on the disk again, only the tail is repeated."""
    work = chaos(project, 400, BYTES=2_000)
    process = project.start("run", "job.yaml", preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (200_000, 200_000)))
    last = ended(process)
    assert last.code == 1, last.err
    assert "Traceback" not in last.err
    assert "resume" in last.err
    calls = work.calls()
    assert len(calls) < work.items * 3
    work.killed_at[process.pid] = max(call.ended_at or 0 for call in calls)
    resumed = work.resume()
    assert resumed.code == 3, resumed.err
    work.check_result()
    work.repeated()


def test_a_clock_that_is_set_back_and_forth_decides_nothing(project: Project) -> None:
    """Machines disagree about the time, and correct it: which run came last, and whether it lives, is never read off a clock."""
    work = chaos(project, 300)
    project.write("sitecustomize.py", CLOCK)

    def at(days: float) -> dict[str, str]:
        return {**os.environ, "CLOCK": str(days * 86_400), "PYTHONPATH": str(project.folder)}

    arguments = ["run", "job.yaml"]
    for days in (0, -1, 400):
        before = len(work.journals)
        process = project.start(*arguments, env=at(days))
        assert work.kill(process, lambda before=before: len(work.journals) > before, 0.3)
        assert Execution(work.folder).status == "interrupted"
        arguments = ["resume", str(work.folder)]
    hold = project.write("hold", "")
    process = project.start(*arguments, env=at(-4_000))
    while not work.calls_of(process) and process.poll() is None:
        time.sleep(0.01)
    assert Execution(work.folder).status == "running"
    assert project.batchrun("pause", str(work.folder), env=at(-8_000)).code == 0
    while "paused by" not in (line := process.stderr.readline()) and line:
        pass
    hold.unlink()
    assert ended(process).code == 4
    assert Execution(work.folder).status == "paused"
    assert project.batchrun(*arguments, env=at(-1)).code == 3
    work.check_result()
    work.repeated()
    assert [change["status"] for change in project.record["states"]].count("running") == 5


DISKS = """\
set -u
batchrun() {{ "{python}" -m batchrun "$@" 2>> "messages"; echo $? >> codes; }}
mkdir runs
{small}
batchrun run job.yaml
{large}
batchrun resume
rm down
{full}
batchrun retry
cp runs/*/results.parquet before.parquet
{free}
batchrun resume
mkdir result
cp -r runs result
"""
SMALL_DISK = {
    "small": "mount -t tmpfs -o size=120k tmpfs runs",
    "large": "mount -o remount,size=64m runs",
    "full": "cat /dev/zero > runs/filler 2> full; truncate -s -120k runs/filler",
    "free": "rm runs/filler",
}
SMALL_FILES = {"small": "(ulimit -f 240", "large": ")", "full": "(ulimit -f 400", "free": ")"}
"""In place of a disk, where none may be mounted: each file may have only so many blocks."""


def test_a_disk_that_is_full_costs_nothing_but_time(project: Project) -> None:
    """Whatever the disk does not take, of a run or of a retry, is run once there is room again; results that are there stay."""
    work = chaos(project, 300, BYTES=2_000)
    project.write("down", "")
    alone = ["unshare", "--mount", "--map-root-user"]
    probe = [*alone, "mount", "-t", "tmpfs", "tmpfs", str(project.folder)]
    can_mount = shutil.which("unshare") is not None and subprocess.run(probe, check=False, capture_output=True).returncode == 0
    script = DISKS.format(python=sys.executable, **(SMALL_DISK if can_mount else SMALL_FILES))
    subprocess.run([*(alone if can_mount else []), "sh", "-c", script], cwd=project.folder, check=True, timeout=250)
    messages = (project.folder / "messages").read_text()
    assert (project.folder / "codes").read_text().split() == ["1", "3", "1", "3"], messages
    assert ("the disk is full" in messages) == can_mount and "Traceback" not in messages
    assert pq.read_table(project.folder / "before.parquet")["status"].to_pylist() == ["failed"] * 300
    (folder,) = (project.folder / "result" / "runs").iterdir()
    work.check_result(folder, attempts=2)
