"""What docs/workflows.md shows is what happens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.test_docs import ROOT, Block, blocks, run

PAGE = list(blocks(ROOT / "docs/workflows.md"))
EXAMPLES = [(job.text, shown.text) for job, shown in pairwise(PAGE) if job.language == "yaml"]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the data and the functions of the page."""
    files = {block.language: block.text for block in PAGE}
    (tmp_path / "tickets.csv").write_text(files["csv"])
    (tmp_path / "desk.py").write_text(files["python"])
    return tmp_path


def rows(result: Path) -> Iterator[str]:
    for row in pq.read_table(result).to_pylist():
        yield f"{row['source_item_id']} {row['status']} {row['output'] or ''}".rstrip()


@pytest.mark.parametrize(("job", "shown"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_give_what_the_page_says(desk: Path, job: str, shown: str) -> None:
    """Who copies a job and its functions sees the statuses and outputs that are shown below it."""
    (desk / "job.yaml").write_text(job)
    run([sys.executable, "-m", "batchrun", "run", "job.yaml", "--set", "output.path=runs"], desk)
    (result,) = desk.glob("runs/*/results.parquet")
    assert list(rows(result)) == shown.splitlines()


def test_the_drawing_is_that_of_the_fallback(desk: Path) -> None:
    """The command that the page names prints what it shows."""
    (desk / "job.yaml").write_text(EXAMPLES[3][0])
    drawn = run([sys.executable, "-m", "batchrun", "plan", "job.yaml", "--graph", "mermaid"], desk)
    assert [block for block in PAGE if block.language == "mermaid"] == [Block("mermaid", drawn)]


def test_the_page_has_examples() -> None:
    """Each chapter that promises something shows it."""
    assert len(EXAMPLES) == 5
