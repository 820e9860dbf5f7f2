"""A job whose node calls are logged by the functions themselves, and runners of it that are killed."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchrun.results import Recovered
from tests.e2e.conftest import Ended, Project

JOB = """\
name: chaos
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: fetch, type: python, call: "steps:fetch", inputs: {size: "{{ item.size }}"}}
    - {id: weigh, type: python, call: "steps:weigh", inputs: {size: "{{ nodes.fetch.output }}"}}
    - {id: judge, type: python, call: "steps:judge", inputs: {size: "{{ nodes.weigh.output }}"}}
run: {parallelism: 16, retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""
QUICK_JOB = """\
name: quick
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: write, type: python, call: "steps:write", inputs: {size: "{{ item.size }}"}}
output: {path: runs, keep: [size]}
"""
NOTES = """\
import os
import threading
import time

LOG = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
CLOCK = os.open(f"clock-{os.getpid()}", os.O_RDWR | os.O_CREAT)
SYNCING, TICKS, fsync = [], [0], os.fsync


def synced(file):
    SYNCING.append(file)
    try:
        fsync(file)
    finally:
        SYNCING.pop()


def tick():
    while True:
        time.sleep(0.01)
        if not SYNCING:
            TICKS[0] += 1
            os.pwrite(CLOCK, b"%09d" % TICKS[0], 0)


os.fsync = synced
threading.Thread(target=tick, daemon=True).start()


def note(node, size, what):
    os.write(LOG, f"{TICKS[0]} {os.getpid()} {node} {size} {what}\\n".encode())


"""
"""A log of calls. Times are counted by the process itself, and stand still while it waits for the disk: however long a busy
machine leaves it aside, it does not get older."""

STEPS = """\
import asyncio
import random
import time
from pathlib import Path

from notes import note

BYTES = 0


async def fetch(size: int) -> int:
    note("fetch", size, "start")
    await asyncio.sleep(0.003 + size % 7 * 0.009)
    while Path("hold").exists():
        await asyncio.sleep(0.01)
    note("fetch", size, "end")
    return size


def weigh(size: int) -> int:
    note("weigh", size, "start")
    time.sleep(0.002)
    note("weigh", size, "end")
    return size


async def judge(size: int) -> str:
    note("judge", size, "start")
    await asyncio.sleep(0.003 + size % 5 * 0.012)
    note("judge", size, "end")
    if Path("down").exists():
        raise ConnectionError("nobody is there")
    if size % 13 == 12:
        raise ValueError(f"{size} is refused")
    return f"{size} is old" + random.Random(size).randbytes(BYTES).hex()


def write(size: int) -> str:
    note("write", size, "start")
    note("write", size, "end")
    return f"{size} is old" + random.Random(size).randbytes(BYTES).hex()
"""

WINDOW_TICKS = 75
"""What may be lost besides the calls in flight: what ended in the last quarter of a second, and on its way to the journal."""

_LINE = re.compile(r"(\d+) (\d+) (\w+) (\d+) (start|end)\n")


@dataclass(slots=True, kw_only=True)
class Call:
    """A node call, as the function itself logged it."""

    pid: int
    node: str
    item: int
    ended_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chaos:
    """A project whose runners are killed."""

    project: Project
    items: int
    killed_at: dict[int, int]

    @property
    def folder(self) -> Path:
        """The folder of the only execution."""
        (folder,) = self.project.executions
        return folder

    @property
    def journals(self) -> list[Path]:
        return sorted(self.project.folder.glob("runs/*/journal/*.journal"))

    def calls(self) -> list[Call]:
        """All calls in the order in which they began; a process makes none of them twice."""
        calls: dict[tuple[int, str, int], Call] = {}
        log = self.project.folder / "log"
        # A kill may cut a line off, and then the next one is written behind what is left of it.
        for at, pid, node, item, what in _LINE.findall(log.read_text()) if log.exists() else ():
            key = (int(pid), node, int(item))
            if what == "start":
                assert key not in calls
                calls[key] = Call(pid=int(pid), node=node, item=int(item))
            else:
                calls[key].ended_at = int(at)
        return list(calls.values())

    def calls_of(self, process: subprocess.Popen[str]) -> int:
        return sum(call.pid == process.pid for call in self.calls())

    def kill(self, process: subprocess.Popen[str], is_time: Callable[[], bool], delay: float = 0) -> bool:
        """Kill a runner this many seconds after it is time. Returns whether it was still running."""
        try:
            while not is_time() and process.poll() is None:
                time.sleep(0.003)
            process.wait(delay)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
        return self.died(process)

    def died(self, process: subprocess.Popen[str]) -> bool:
        """Wait for the end of a runner. Returns whether it was killed."""
        process.communicate()
        if process.returncode >= 0:
            return False
        clock = self.project.folder / f"clock-{process.pid}"
        self.killed_at[process.pid] = int((clock.exists() and clock.read_text()) or 0)
        return True

    def kill_once_kept(self, items: int) -> None:
        """Run the job, and kill the runner when the journal has so many items that are done."""
        process = self.project.start("run", "job.yaml")
        assert self.kill(process, lambda: self.kept() >= items)

    def kept(self) -> int:
        """How many items are done as the journal has it."""
        return sum(map(bool, Recovered(self.folder).done)) if self.journals else 0

    def kill_at_work(self, delay: float, *arguments: str) -> bool:
        """Start a runner and kill it this many seconds after it has opened its journal."""
        before = len(self.journals)
        return self.kill(self.project.start(*arguments), lambda: len(self.journals) > before, delay)

    def resume(self, *arguments: str) -> Ended:
        return self.project.batchrun("resume", str(self.folder), *arguments)

    def repeated(self, since: int = 0) -> Counter[int]:
        """How many calls of each killed runner were made again, each of which it had in flight or had only just ended.

        Args:
            since: the number of calls that are meant to be made again.
        """
        last: dict[tuple[str, int], Call] = {}
        repeated: Counter[int] = Counter()
        for call in self.calls()[since:]:
            before = last.get((call.node, call.item))
            if before is not None:
                killed_at = self.killed_at[before.pid]
                assert before.ended_at is None or before.ended_at > killed_at - WINDOW_TICKS, (before, killed_at, call)
                repeated[before.pid] += 1
            last[call.node, call.item] = call
        return repeated

    def check_result(
        self, folder: Path | None = None, answers: tuple[str, ...] = ("is old",), *, attempts: int = 1
    ) -> list[dict[str, Any]]:
        """One row per item, in order, each with what its item gives; the totals add up to them."""
        folder = folder or self.folder
        table = pq.read_table(folder / "results.parquet")
        rows: list[dict[str, Any]] = table.drop_columns(["node_executions"]).to_pylist()
        assert [(row["item_index"], row["source_item_id"], row["size"]) for row in rows] == [
            (at, f"item {at}", at) for at in range(self.items)
        ]
        for at, row in enumerate(rows):
            assert row["attempts"] == attempts, row
            if at % 13 == 12:
                assert (row["status"], row["output"], row["error"]["message"]) == ("failed", None, f"{at} is refused")
            else:
                assert (row["status"], row["error"]) == ("completed", None), row
                assert row["output"].startswith(tuple(f"{at} {answer}" for answer in answers)), row
        assert [[node["status"] for node in nodes] for nodes in table["node_executions"].to_pylist()] == [
            ["completed", "completed", "failed" if at % 13 == 12 else "completed"] for at in range(self.items)
        ]
        self.check_totals(folder, sum(row["status"] == "failed" for row in rows))
        return rows

    def check_totals(self, folder: Path, failed: int) -> None:
        record = Project(folder=folder.parent.parent).record
        assert record["status"] == "completed"
        found = [record["totals"][f"{name}_items"] for name in ("total", "completed", "failed")]
        assert found == [self.items, self.items - failed, failed]
        metadata = pq.read_metadata(folder / "results.parquet").metadata
        assert [int(metadata[f"{name}_items".encode()]) for name in ("total", "completed", "failed")] == found


def chaos(project: Project, items: int, job: str = JOB, **settings: int) -> Chaos:
    steps = STEPS
    for name, value in settings.items():
        steps = steps.replace(f"{name} = 0", f"{name} = {value}")
    project.write("job.yaml", job)
    project.write("steps.py", steps)
    project.write("notes.py", NOTES)
    project.table("data.parquet", {"id": [f"item {at}" for at in range(items)], "size": range(items)})
    return Chaos(project=project, items=items, killed_at={})
