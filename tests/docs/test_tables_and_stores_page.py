"""What docs/tables-and-stores.md shows is what happens."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from batchrun.config import load_job
from tests.docs.test_docs import ROOT, blocks

PAGE = list(blocks(ROOT / "docs/tables-and-stores.md"))
EXAMPLES = [(job.text, shown.text) for job, shown in pairwise(PAGE) if job.language == "yaml"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(("job", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_give_what_the_page_says(tmp_path: Path, job: str, shown: str) -> None:
    """Who copies the program and a job sees what is shown below it."""
    (program,) = [block.text for block in PAGE if block.language == "python"]
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, timeout=250, check=True)
    (tmp_path / "inbox/old").mkdir(parents=True)
    (tmp_path / "inbox/anna.txt").write_text("Please call me back")
    (tmp_path / "inbox/old/bert.txt").write_text("Hello there")
    (tmp_path / "inbox/scan.png").write_bytes(b"\x89PNG")
    (tmp_path / "job.yaml").write_text(job)
    command = [sys.executable, "-m", "batchrun", "run", "job.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("runs/*/results.parquet")
    rows = pq.read_table(result).to_pylist()
    assert sorted(f"{row['source_item_id']} {row['status']} {row['output']}" for row in rows) == shown.splitlines()
    if "type: delta" in job:
        assert pl.read_delta(str(tmp_path / "tables/loud")).height == len(rows)


def test_the_page_has_examples() -> None:
    """Tables, results in tables and folders are all shown at work."""
    assert len(EXAMPLES) == 3


def test_the_dataset_in_a_bucket_is_one() -> None:
    """The line can be copied into a job."""
    (text,) = [block.text for block in PAGE if block.text.startswith("dataset:") and block.language == "text"]
    path = load_job({"dataset": text.split('"')[1], "workflow": "builtins:str"}).dataset.path
    assert path == "s3://my-bucket/tickets/*.parquet"
