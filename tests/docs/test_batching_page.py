"""What docs/batching.md shows is what happens."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq

from tests.docs.test_docs import ROOT, blocks, run


def test_the_example_runs_and_makes_few_calls(tmp_path: Path) -> None:
    """Who copies the function and the job gets a typed column, and the line that the page shows."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    (tmp_path / "configs").mkdir()
    found = {block.language: block.text for block in blocks(ROOT / "docs/batching.md")}
    (tmp_path / "configs/distances.py").write_text(found["python"])
    (tmp_path / "configs/distances.yaml").write_text(found["yaml"])
    printed = run([sys.executable, "-m", "batchrun", "run", "configs/distances.yaml"], tmp_path)
    said = r"^distance: 4,000 items in ([\d,]+) calls, [\d.]+ at a time$"
    shown, told = re.search(said, found["text"], re.MULTILINE), re.search(said, printed, re.MULTILINE)
    assert shown is not None
    assert told is not None, printed
    assert 63 <= int(told[1].replace(",", "")) < 1_000
    (result,) = tmp_path.rglob("results.parquet")
    distances = dict(zip(*pq.read_table(result).select(["source_item_id", "output"]).to_pydict().values(), strict=True))
    assert len(distances) == 4_000
    assert all(0 < kilometres < 20_038 for kilometres in distances.values())
