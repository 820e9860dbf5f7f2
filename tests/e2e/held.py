"""A job whose calls end when a test says so, and runners of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from batchrun.client import Execution
from tests.e2e.conftest import PATIENCE_SECONDS, Project

ITEMS = 40
STEPS = """\
import asyncio
from pathlib import Path


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


async def hold(size: int) -> int:
    note(f"start {size}")
    while not (Path("release").exists() or Path(f"go-{size}").exists()):
        await asyncio.sleep(0.01)
    note(f"end {size}")
    return size
"""
JOB = """\
name: held
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: hold, type: python, call: "steps:hold", inputs: {size: "{{ item.size }}"}}
run: {parallelism: 2, retry: {max_attempts: 1}}
"""


@contextmanager
def held_job(project: Project) -> Iterator[Project]:
    """A project with this job. No process outlives the test."""
    project.write("steps.py", STEPS)
    project.write("job.yaml", JOB)
    project.table("data.parquet", {"id": [f"item {row}" for row in range(ITEMS)], "size": range(ITEMS)})
    try:
        yield project
    finally:
        for folder in project.executions:
            execution = Execution(folder)
            if execution.status in ("running", "finalizing") and execution.record["pid"] != os.getpid():
                os.kill(execution.record["pid"], signal.SIGKILL)


def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def held(work: Project) -> tuple[subprocess.Popen[str], str]:
    """A runner whose first two calls are in flight, and the id of its execution. What it tells people is in the file `told`."""
    with (work.folder / "told").open("w") as told:
        process = work.start("run", "job.yaml", stdout=told, stderr=told)
    until(lambda: len(begun(work)) >= 2 or process.poll() is not None)
    assert process.returncode is None, (work.folder / "told").read_text()
    return process, work.record["execution_id"]


def until_begun(work: Project, calls: int) -> None:
    until(lambda: len(begun(work)) >= calls)


def until_told(work: Project, text: str) -> None:
    until(lambda: text in (work.folder / "told").read_text())


def release(work: Project, process: subprocess.Popen[str]) -> int:
    """Let all calls end from now on, and wait for the end of the runner. Returns its exit code."""
    (work.folder / "release").touch()
    process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode


def log(work: Project) -> list[str]:
    path = work.folder / "log"
    return path.read_text().splitlines() if path.exists() else []


def begun(work: Project) -> list[int]:
    """The items whose calls have begun, in order."""
    return [int(line.split()[1]) for line in log(work) if line.startswith("start")]
