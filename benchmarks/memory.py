"""Peak memory: the three-node job over few and over many items, each in a process of its own.

python benchmarks/memory.py [--items 2000000]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from work import make_dataset, three_nodes

import batchrun


def peak_mib() -> int:
    """Peak resident memory of this process (Linux). Unlike `ru_maxrss` it does not begin with that of the parent."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) // 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=2_000_000)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        execution = batchrun.execute(three_nodes(arguments.child, arguments.child.parent / "runs"), quiet=True)
        print(execution.progress.completed_items, peak_mib())
        return
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        for rows in (20_000, arguments.items):
            dataset = make_dataset(Path(name) / f"{rows}.parquet", rows)
            began = time.perf_counter()
            child = subprocess.run([sys.executable, __file__, "--child", dataset], capture_output=True, text=True, check=True)
            completed, peak = map(int, child.stdout.split())
            peaks.append(peak)
            print(f"{completed:>9,} items: peak {peak} MiB, {time.perf_counter() - began:.1f} s")
    print(f"difference: {peaks[1] - peaks[0]} MiB")


if __name__ == "__main__":
    main()
