"""A job that is submitted from the process of the tests; its calls tell when they begin, and can be held."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from batchrun import Client, Execution
from tests.e2e.conftest import PATIENCE_SECONDS, Calls, Project

JOB = """\
name: held
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: work, type: python, call: "steps:work", inputs: {text: "{{ item.text }}"}}
run: {parallelism: 2, retry: {max_attempts: 1}, grace_seconds: 0}
"""
STEPS = """\
import asyncio
import os
from pathlib import Path


async def work(text: str) -> str:
    with open("calls", "w") as pipe:
        pipe.write("\\n")
    while Path("hold").exists():
        await asyncio.sleep(0.01)
    if text == "bad" and not Path("repaired").exists():
        raise ValueError("nothing can be made of this")
    return text.upper()


def whole(item):
    return len(item["text"])


async def place(text: str) -> list:
    return [text, os.getcwd(), os.environ.get("COLOUR"), os.getpid()]
"""
ELSEWHERE = """\
import os
import sys
import time
from pathlib import Path

if os.environ["SUBMITTER"] != str(os.getpid()):
    {what}
"""
"""What a module does when it is imported, but not where the job is submitted."""

DATA = "id,text\na,one\nb,two\nc,bad\nd,four\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A project, a client of it, and its calls."""

    project: Project
    client: Client
    calls: Calls

    @property
    def folder(self) -> Path:
        return self.project.folder

    def hold(self) -> None:
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        (self.folder / "hold").unlink()

    def submitted(self, *, calls: int = 1) -> Execution:
        """An execution that holds this many calls."""
        self.hold()
        execution = self.client.submit("job.yaml")
        self.calls.wait_for(calls)
        return execution

    def ended(self) -> Execution:
        """An execution that has completed."""
        execution = self.client.submit("job.yaml")
        assert wait(execution) == "completed"
        return execution

    def elsewhere(self, what: str, module: str = "steps.py") -> None:
        """Let a module do something when it is imported in the process of the execution."""
        self.project.write(module, ELSEWHERE.format(what=what) + STEPS)


@contextmanager
def submitting(project: Project, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """The project is the working directory and the place of the modules, until the test has ended."""
    for name, content in (("job.yaml", JOB), ("steps.py", STEPS), ("data.csv", DATA)):
        project.write(name, content)
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(project.folder)])
    monkeypatch.setenv("SUBMITTER", str(os.getpid()))
    sys.modules.pop("steps", None)
    with Client() as client:
        yield Held(project=project, client=client, calls=calls)
    (project.folder / "hold").unlink(missing_ok=True)  # after a test that failed, no process is left behind
    sys.modules.pop("steps", None)


def wait(execution: Execution) -> str:
    return execution.wait(interval_seconds=0.02, timeout_seconds=PATIENCE_SECONDS)


def until(is_so: Callable[[], object]) -> None:
    """Return when it is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    """Whether there is such a process; one that has ended is there until its parent has taken notice."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
