"""What docs/python-functions.md shows is what happens."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq

from tests.docs.test_docs import ROOT, blocks, run


def test_the_class_and_the_function_run_where_the_job_says(tmp_path: Path) -> None:
    """Who copies the module and the job gets the class set up once, and the function called in processes."""
    found = {block.language: block.text for block in reversed([*blocks(ROOT / "docs/python-functions.md")])}  # the first of each
    (tmp_path / "my_functions.py").write_text(found["python"])
    (tmp_path / "job.yaml").write_text(found["yaml"])
    (tmp_path / "data.csv").write_text("id,code,text\n1,de,guten Tag\n2,xx,hello\n")
    (tmp_path / "countries.csv").write_text("de,Germany\nfr,France\n")
    run([sys.executable, "-m", "batchrun", "run", "job.yaml"], tmp_path)
    (result,) = tmp_path.rglob("results.parquet")
    assert pq.read_table(result)["output"].to_pylist() == ['{"country":"Germany","count":2}', '{"country":"none","count":1}']
