"""A user's folder with a job in it, and the program as a user starts it there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PATIENCE_SECONDS = 250
"""A safety net only: nothing here takes a tenth of it."""

JOB = """\
name: small
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - id: tidy
      type: python
      call: steps:tidy
      inputs: {text: "{{ item.text }}"}
run: {retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""
STEPS = """\
def tidy(text: str) -> str:
    if text == "bad":
        raise ValueError("nothing can be made of this")
    return text.strip().upper()
"""
DATA = 'id,text,size\na,one,1\nb,"two, and a half",2\nc,three,3\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A program that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A folder with job.yaml, data.csv and steps.py."""

    folder: Path

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def table(self, name: str, columns: dict[str, Any], **options: Any) -> Path:
        path = self.folder / name
        pl.DataFrame(columns).write_parquet(path, **options)
        return path

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        chosen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": default_home()} | options
        return subprocess.Popen([sys.executable, "-m", "batchrun", *arguments], cwd=self.folder, text=True, **chosen)

    def batchrun(self, *arguments: str, **options: Any) -> Ended:
        return ended(self.start(*arguments, **options))

    @property
    def executions(self) -> list[Path]:
        runs = self.folder / "runs"
        return sorted(runs.iterdir()) if runs.exists() else []

    @property
    def files(self) -> set[str]:
        """The files of the only execution."""
        (execution,) = self.executions
        return {path.name for path in execution.iterdir()}

    @property
    def record(self) -> dict[str, Any]:
        """The execution record of the only execution."""
        (execution,) = self.executions
        record: dict[str, Any] = json.loads((execution / "execution.json").read_text())
        return record

    @property
    def result(self) -> pa.Table:
        """The result of the only execution."""
        (execution,) = self.executions
        return pq.read_table(execution / "results.parquet")

    @property
    def counters(self) -> dict[str, int]:
        """The counters in the metadata of the result, which must add up to its rows."""
        (execution,) = self.executions
        metadata = pq.read_metadata(execution / "results.parquet")
        found = {key.decode(): int(value) for key, value in metadata.metadata.items() if key.endswith(b"_items")}
        assert found["total_items"] == metadata.num_rows
        assert found["processed_items"] == sum(found[f"{name}_items"] for name in ("completed", "failed", "skipped"))
        assert found["total_items"] == found["processed_items"] + found["cancelled_items"] + found["waiting_items"]
        return found


class Calls:
    """Hears of calls while they run: the function writes a line to the named pipe `calls` in its working directory."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._seen = b""

    def wait_for(self, count: int) -> None:
        """Return when this many calls have begun."""
        while self._seen.count(b"\n") < count:
            self._seen += os.read(self._pipe, 65536)


def default_home() -> dict[str, str]:
    """The environment of a user who has not chosen where executions are listed."""
    return {name: value for name, value in os.environ.items() if name != "BATCHRUN_HOME"}


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a program and take what it has written."""
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    return Ended(code=process.returncode, out=out or "", err=err or "")


@contextmanager
def _listening(path: Path) -> Iterator[Calls]:
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)  # for writing too: else each writer that closes it would look like the end
    try:
        yield Calls(pipe)
    finally:
        os.close(pipe)


@pytest.fixture(autouse=True)
def _same_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test and the processes it starts in its project look at the same list: the one such a process has by default."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path / ".batchrun"))


@pytest.fixture(autouse=True)
def _own_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules that a test wrote and imported are forgotten with it: those of the next test have the same names."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(folder=tmp_path)
    for name, content in (("job.yaml", JOB), ("steps.py", STEPS), ("data.csv", DATA)):
        project.write(name, content)
    return project


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    with _listening(tmp_path / "calls") as calls:
        yield calls
