"""What docs/planning.md shows is what happens."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from batchrun.testing.faulty_service import FaultyService
from tests.docs.test_docs import ROOT, blocks, run

PAGE = ROOT / "docs/planning.md"
FOUND = {block.language: block.text for block in blocks(PAGE)}


@pytest.fixture
def service() -> Iterator[FaultyService]:
    with FaultyService() as service:
        yield service


@pytest.fixture
def folder(tmp_path: Path, service: FaultyService) -> Path:
    """The job of the page and letters for it."""
    letters = [f"Letter number {number}: " + "my order is late. " * (number % 5) for number in range(20_000)]
    languages = ["de"] * 10_000 + ["en"] * 10_000
    rows = pl.DataFrame({"id": range(20_000), "text": letters, "language": languages})
    rows.write_parquet(tmp_path / "letters.parquet", row_group_size=2_000)
    assert '"http://127.0.0.1:8080/v1"' in FOUND["yaml"]
    (tmp_path / "job.yaml").write_text(FOUND["yaml"].replace("http://127.0.0.1:8080", service.url))
    return tmp_path


def page_of(text: str) -> list[str]:
    """The lines of a plan without what differs from run to run: how long the sample took."""
    return [re.sub(r"in [\d.]+ s: ", "in N s: ", line) for line in text.strip().splitlines()]


def test_the_sample_says_what_the_page_shows(folder: Path, service: FaultyService) -> None:
    """Line for line: the same seed chooses the same letters, and the interval is drawn from the same numbers."""
    command = FOUND["sh"].split()
    printed = run([sys.executable, "-m", *command, "--quiet"], folder)
    assert page_of(FOUND["text"]) == page_of(printed.partition("\n2")[0])
    assert "batchrun resume runs/" in printed
    assert service.seen("/v1/*").count == 50


def test_the_program_of_the_page_runs(folder: Path, service: FaultyService) -> None:
    """A plan that is cheap enough goes on without a person, and no letter is asked about twice."""
    job = (folder / "job.yaml").read_text().replace("length(text) > 40", "id < 200").replace("6000", "60000")
    (folder / "job.yaml").write_text(job)
    printed = run([sys.executable, "-W", "error", "-c", f"import batchrun\n{FOUND['python']}\nprint(execution.status)"], folder)
    assert "the rest  150 items" in printed and printed.strip().endswith("completed")
    assert service.seen("/v1/*").count == 200
