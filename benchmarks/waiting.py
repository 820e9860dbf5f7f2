"""Waiting: items that each wait 50 ms, 200 at a time, against the ideal time.

python benchmarks/waiting.py [--items 5000] [--parallelism 200] [--wait-ms 50]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import polars as pl

import batchrun

_wait_seconds = 0.05


async def wait(item: dict[str, Any]) -> int:
    """Wait, and give the item's number back."""
    await anyio.sleep(_wait_seconds)
    return int(item["n"])


def wait_in_thread(item: dict[str, Any]) -> int:
    """The same in a plain function."""
    time.sleep(_wait_seconds)
    return int(item["n"])


def main() -> None:
    """Measure and print."""
    global _wait_seconds  # noqa: PLW0603 - read by the functions under test
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=5_000)
    parser.add_argument("--parallelism", type=int, default=200)
    parser.add_argument("--wait-ms", type=float, default=50)
    arguments = parser.parse_args()
    _wait_seconds = arguments.wait_ms / 1e3
    ideal = arguments.items * _wait_seconds / arguments.parallelism
    with tempfile.TemporaryDirectory() as name:
        for function in (wait, wait_in_thread):
            seconds = {}
            for count in (1, 1, arguments.items):  # the first one also pays for imports
                job = batchrun.Job(
                    dataset=pl.DataFrame({"n": range(count)}),
                    workflow=function,
                    parallelism=arguments.parallelism,
                    output=batchrun.Output(path=str(Path(name) / "runs")),
                )
                began = time.perf_counter()
                execution = batchrun.execute(job, quiet=True)
                seconds[count] = time.perf_counter() - began
                if execution.progress.completed_items != count:
                    raise SystemExit(f"{function.__name__}: {execution}")
            start_up = seconds[1] - _wait_seconds
            spent = seconds[arguments.items] - start_up
            print(f"{function.__name__}: {spent:.2f} s and {start_up:.2f} s start-up; ideal {ideal:.2f} s, ratio {spent / ideal:.2f}")


if __name__ == "__main__":
    main()
