"""Jobs whose calls end when the test says so, run in a process of their own and steered from outside."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrun.client import Execution
from batchrun.store import Store, StoredExecution
from tests.e2e.conftest import PATIENCE_SECONDS, Calls, Project, default_home

ITEMS = 40
STEPS = """\
import asyncio
import os
import time
from pathlib import Path

import anyio

LOG = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
CALLS = os.open("calls", os.O_WRONLY)


def note(what, size):
    os.write(LOG, f"{what} {size}\\n".encode())
    if what == "start":
        os.write(CALLS, b"\\n")


def is_held(size):
    return not (Path("release").exists() or Path(f"go-{size}").exists())


async def hold(size: int) -> int:
    note("start", size)
    while is_held(size):
        await asyncio.sleep(0.01)
    note("end", size)
    return size


def block(size: int) -> int:
    note("start", size)
    while is_held(size):
        time.sleep(0.01)
    note("end", size)
    return size


async def block_in_thread(size: int) -> int:
    return await anyio.to_thread.run_sync(block, size)


async def fail(size: int) -> int:
    note("start", size)
    raise OSError("come back later")


def plus(size: int) -> int:
    return size + 1
"""
JOB = """\
name: steered
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: plain, type: python, call: "steps:plus", inputs: {size: "{{ item.size }}"}}
    - {id: held, type: python, call: "steps:%s", inputs: {size: "{{ nodes.plain.output - 1 }}"}}
run: {parallelism: 3, retry: {max_attempts: 1}}
"""


@dataclass(slots=True, kw_only=True)
class Steered:
    """An execution in a process of its own, in a project folder."""

    project: Project
    calls: Calls
    begun: int = 0
    process: subprocess.Popen[str] | None = None

    @property
    def folder(self) -> Path:
        """The folder of the only execution."""
        (folder,) = self.project.executions
        return folder

    @property
    def stored(self) -> StoredExecution:
        """What the list says of the newest execution."""
        with Store.open(self.project.folder / ".batchrun") as store:
            return store.find("latest")

    @property
    def listed(self) -> list[StoredExecution]:
        """All executions of the list."""
        with Store.open(self.project.folder / ".batchrun") as store:
            return store.executions()

    @property
    def said(self) -> str:
        """What the last process told people."""
        return (self.project.folder / "said").read_text()

    @property
    def log(self) -> list[str]:
        return (self.project.folder / "log").read_text().splitlines()

    def look(self) -> Execution:
        return Execution(self.folder)

    def start(self, *arguments: str, held: int = 3, **environment: str) -> subprocess.Popen[str]:
        """Start a process, and wait until it holds so many more calls."""
        with (self.project.folder / "said").open("w") as said:
            options: dict[str, Any] = {"stderr": said, "env": default_home() | environment}
            self.process = self.project.start(*(arguments or ("run", "job.yaml")), **options)
        self.wait_for_calls(held)
        return self.process

    def wait_for_calls(self, more: int) -> None:
        self.begun += more
        self.calls.wait_for(self.begun)

    def go(self, *sizes: int) -> None:
        """Let the calls of these items end."""
        for size in sizes:
            (self.project.folder / f"go-{size}").touch()

    def release(self) -> int:
        """Let all calls end from now on, and wait for the end of the process. Returns its exit code."""
        (self.project.folder / "release").touch()
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode

    def until_said(self, text: str) -> None:
        until(lambda: text in self.said)


@contextmanager
def steering(project: Project, calls: Calls, function: str = "hold") -> Iterator[Steered]:
    """A job of two nodes whose second calls end when the test says so. No process outlives the test."""
    project.write("steps.py", STEPS)
    project.write("job.yaml", JOB % function)
    project.table("data.parquet", {"id": [f"item {row}" for row in range(ITEMS)], "size": range(ITEMS)})
    steered = Steered(project=project, calls=calls)
    try:
        yield steered
    finally:
        if steered.process is not None:
            steered.process.kill()
            steered.process.communicate()


def until(condition: Callable[[], bool]) -> None:
    """Return when it holds."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
