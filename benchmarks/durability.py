"""Durability: what the journal costs, and how long a resume takes until its first call.

Runs the three-node job with and without a journal in turn, then cuts the last tenth off the journal of a finished
execution, as a crash would, and resumes it.

python benchmarks/durability.py [--items 1000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from work import make_dataset, three_nodes

import batchrun
from batchrun.results import scan_results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = make_dataset(folder / "items.parquet", arguments.items)
        ratios = []
        for number in range(1, arguments.rounds + 1):
            seconds = {durable: _seconds(dataset, folder, durable=durable) for durable in (False, True)}
            ratios.append(seconds[True] / seconds[False])
            print(f"round {number}: without {seconds[False]:.2f} s, with a journal {seconds[True]:.2f} s, ratio {ratios[-1]:.3f}")
        print(f"ratio, median of {arguments.rounds}: {statistics.median(ratios):.3f}")
        _resume(max((folder / "runs").glob("*/journal")).parent)


def _seconds(dataset: Path, folder: Path, *, durable: bool) -> float:
    began = time.perf_counter()
    execution = batchrun.execute(three_nodes(dataset, folder / "runs"), {"run.durable": durable}, quiet=True)
    if not execution.has_succeeded:
        raise SystemExit(f"{execution}")
    return time.perf_counter() - began


def _resume(folder: Path) -> None:
    journal = folder / "journal" / "000001.journal"
    os.truncate(journal, journal.stat().st_size * 9 // 10)
    record = json.loads((folder / "execution.json").read_text())
    (folder / "execution.json").write_text(json.dumps({**record, "status": "running"}))
    program = "import sys, batchrun; print(batchrun.resume(sys.argv[1], quiet=True).folder)"
    began = time.time()
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
    ended = time.time()
    first = scan_results(folder).select("started_at").collect()["started_at"].dt.epoch("us")
    begun = min(moment for moment in first if moment >= began * 1e6) / 1e6
    print(f"resume, nine tenths done: first call after {begun - began:.2f} s, with start-up; end after {ended - began:.2f} s")


if __name__ == "__main__":
    main()
