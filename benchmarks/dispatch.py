"""Items per second: the three-node job beside a hand-written loop that does the same work and writes the same table.

    python benchmarks/dispatch.py [--items 1000000] [--rounds 3]

Both run in this process, in turn, so that the ratio holds when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))

from work import hand_written, make_dataset, three_nodes

import batchrun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = make_dataset(folder / "small.parquet", 10), make_dataset(folder / "large.parquet", arguments.items)
        began = time.perf_counter()
        warm = batchrun.execute(three_nodes(small, folder / "runs"), quiet=True)
        print(f"start-up and 10 items: {time.perf_counter() - began:.2f} s")
        schema = pq.read_schema(warm.folder / "results.parquet").remove_metadata()
        ratios = []
        for number in range(1, arguments.rounds + 1):
            began, cpu = time.perf_counter(), time.process_time()
            rows = hand_written(large, folder / "loop.parquet", schema)
            loop_seconds, loop_cpu = time.perf_counter() - began, time.process_time() - cpu
            began, cpu = time.perf_counter(), time.process_time()
            execution = batchrun.execute(three_nodes(large, folder / "runs"), quiet=True)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            if not (rows == execution.progress.completed_items == arguments.items):
                raise SystemExit(f"expected {arguments.items} rows, got {rows} and {execution.progress.completed_items}")
            ratios.append(seconds / loop_seconds)
            sizes = [path.stat().st_size / 1e6 for path in (folder / "loop.parquet", execution.folder / "results.parquet")]
            print(
                f"round {number}: loop {loop_seconds / rows * 1e6:6.2f} µs an item ({loop_cpu / rows * 1e6:.2f} CPU, {sizes[0]:.0f} MB), "
                f"batchrun {seconds / rows * 1e6:6.2f} µs ({cpu / rows * 1e6:.2f} CPU, {sizes[1]:.0f} MB), ratio {ratios[-1]:.2f}"
            )
            (execution.folder / "results.parquet").unlink()
    print(f"ratio, median of {len(ratios)}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
