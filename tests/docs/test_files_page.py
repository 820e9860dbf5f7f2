"""What docs/files.md shows is what happens."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.test_docs import ROOT, blocks

PAGE = list(blocks(ROOT / "docs/files.md"))
EXAMPLES = [(job.text, shown.text) for job, shown in pairwise(PAGE) if job.language == "yaml"]


@pytest.mark.parametrize(("job", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_give_what_the_page_says(tmp_path: Path, job: str, shown: str) -> None:
    """Who copies a job and its function sees what is shown below it, failures included."""
    files = {block.language: block.text for block in PAGE}
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "anna.txt").write_text("Please call me back")
    (tmp_path / "letters.csv").write_text(files["csv"])
    (tmp_path / "post.py").write_text(files["python"])
    (tmp_path / "job.yaml").write_text(job)
    command = [sys.executable, "-m", "batchrun", "run", "job.yaml"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=250, check=False)
    (result,) = tmp_path.glob("runs/*/results.parquet")
    rows = pq.read_table(result).to_pylist()
    told = [f"{row['source_item_id']} {row['status']} {row['output'] or row['error']['type']}" for row in rows]
    assert told == shown.splitlines()


def test_the_page_has_examples() -> None:
    """The node and the input are both shown at work."""
    assert len(EXAMPLES) == 2
