"""Start-up: how long people wait for the command line, beside an interpreter that only starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.jobs import make_dataset
from benchmarks.model import Aim, BenchmarkError, Case, Variant

_JOB = """\
dataset: {path: items.parquet, id: id}
workflow:
  nodes:
    - {id: clean, type: python, call: "benchmarks.functions:clean", inputs: {text: "{{ item.body }}"}}
"""


@contextmanager
def files(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    """A job file and its ten items."""
    del items
    make_dataset(folder / "items.parquet", 10)
    (folder / "job.yaml").write_text(_JOB, encoding="utf-8")
    yield {"job": str(folder / "job.yaml")}


def command(job: str, items: int, folder: str, words: list[str]) -> Any:
    """A command, so many times; each time is an item."""
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as installed packages are
    full = [sys.executable, *(word.replace("JOB", job).replace("FOLDER", folder) for word in words)]

    def once() -> bool:
        done = subprocess.run(full, env=compiled, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"{full}: {done.stderr}")
        return True

    once()  # compiles what is imported
    return lambda: sum(once() for _ in range(items))


WORDS = {
    "python": ["-c", "pass"],
    "import polars, pyarrow": ["-c", "import polars, pyarrow"],
    "batchrun --help": ["-m", "batchrun", "--help"],
    "batchrun validate": ["-m", "batchrun", "validate", "JOB"],
    "batchrun run, 10 items": ["-m", "batchrun", "run", "JOB", "--set", "output.path=FOLDER/runs"],
}
CASES = (
    Case(
        group="starting",
        name="start-up",
        about="commands as a person types them; the first ones are what no program in Python, and none with these libraries, can beat",
        baseline="python",
        variants=tuple(
            Variant(name=name, call="benchmarks.cases.starting:command", arguments={"words": words}) for name, words in WORDS.items()
        ),
        files=files,
        items=5,
        quick_items=1,
        aims=(
            Aim(variant="batchrun --help", at_most=0.12, of="seconds"),
            Aim(variant="batchrun validate", at_most=0.6, of="seconds"),
            Aim(variant="batchrun run, 10 items", at_most=1.0, of="seconds"),
        ),
    ),
)
