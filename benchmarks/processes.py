"""Processes: a function that computes for 5 ms, in one process and in worker processes.

Both run in turn, so that the ratio holds when the machine's speed drifts, and beside them what the cores give to bare Python
processes without any batchrun: on a machine that others use, that is less than their number.

python benchmarks/processes.py [--items 2000] [--rounds 3] [--ms 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import polars as pl

import batchrun
from batchrun import Job, Output, Run, Workflow
from batchrun.nodes.python import PythonNode
from batchrun.nodes.workers import usable_cores

NUMBERS_PER_MS = 20_000


def compute(numbers: int) -> int:
    """Keep the interpreter busy."""
    total = 0
    for number in range(numbers):
        total += number
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ms", type=float, default=5)
    arguments = parser.parse_args()
    numbers = _numbers(arguments.ms)
    print(f"{usable_cores()} cores, {arguments.items:,} calls of about {arguments.ms:g} ms")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        _seconds("auto", 10, numbers, Path(name))  # pays for imports
        for number in range(1, arguments.rounds + 1):
            seconds = {place: _seconds(place, arguments.items, numbers, Path(name)) for place in ("auto", "process")}
            ratios.append(seconds["auto"] / seconds["process"])
            ideal = _bare_seconds(1, arguments.items, numbers) / _bare_seconds(usable_cores(), arguments.items, numbers)
            print(
                f"round {number}: {seconds['auto']:.2f} s in one process, {seconds['process']:.2f} s in workers, "
                f"{ratios[-1]:.2f} times as fast; bare processes {ideal:.2f}"
            )
    print(f"median of {len(ratios)}: {statistics.median(ratios):.2f} times as fast")


def _numbers(milliseconds: float) -> int:
    """What `compute` must be given to take so long on this machine."""
    durations = []
    for _ in range(20):
        began = time.perf_counter()
        compute(NUMBERS_PER_MS)
        durations.append((time.perf_counter() - began) * 1e3)
    return int(NUMBERS_PER_MS * milliseconds / min(durations))


def _bare_seconds(processes: int, items: int, numbers: int) -> float:
    """How long bare Python processes take for all calls."""
    program = f"from processes import compute\nfor _ in range({items // processes}):\n    compute({numbers})"
    began = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parent) for _ in range(processes)]
    for process in running:
        process.wait()
    return time.perf_counter() - began


def _seconds(place: Literal["auto", "process"], items: int, numbers: int, folder: Path) -> float:
    call: Any = compute if place == "auto" else "processes:compute"  # the script itself is no module that workers could import
    node = PythonNode(id="compute", call=call, inputs={"numbers": "{{ item.numbers }}"}, placement=place)
    job = Job(
        name="processes",
        dataset=pl.DataFrame({"numbers": [numbers] * items}),
        workflow=Workflow(nodes=(node,)),
        run=Run(parallelism=2 * usable_cores()),
        output=Output(path=str(folder / "runs")),
    )
    began = time.perf_counter()
    execution = batchrun.execute(job, quiet=True)
    seconds = time.perf_counter() - began
    if not execution.has_succeeded:
        raise SystemExit(f"{execution}")
    return seconds


if __name__ == "__main__":
    main()
