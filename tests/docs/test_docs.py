from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from batchrun.config import load_job, reference_page

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for match in re.finditer(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        yield Block(match[1], match[2])


def steady(output: str) -> list[str]:
    """Output without what differs from run to run: ids, times, rates, and the order of nodes by time."""
    output = re.sub(r"\d{8}T\d{6}-[0-9a-f]{10}", "ID", output)
    output = re.sub(r"[\d,]+\.\d+", "N", output)
    return sorted(" ".join(line.split()) for line in output.splitlines() if line.strip())


def run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "POLARS_FMT_MAX_COLS": "10"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_readme_shows_what_its_commands_print(tmp_path: Path) -> None:
    """A newcomer who follows the README sees what it says, block by block, from the first command to the last."""
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    found = list(blocks(ROOT / "README.md"))
    checked = 0
    for block, following in zip(found, [*found[1:], Block("", "")], strict=True):
        if block.language == "console":
            command, _, expected = block.text.removeprefix("$ ").partition("\n")
            assert steady(run([sys.executable, "-m", *command.split()], tmp_path)) == steady(expected)
            checked += 1
        elif block.language == "python":
            printed = run([sys.executable, "-W", "error", "-c", block.text], tmp_path)
            assert following.language == "text"
            assert following.text.strip() in printed
            checked += 1
        elif block.language == "yaml":
            path = tmp_path / "configs" / "readme.yaml"
            path.write_text(block.text)
            run([sys.executable, "-m", "batchrun", "validate", str(path)], tmp_path)
            load_job(path)
            checked += 1
    assert checked >= 4


def test_the_reference_page_is_made_from_the_code() -> None:
    """The job file reference is never out of date: `make docs` writes it."""
    assert (ROOT / "docs/reference/job-file.md").read_text() == reference_page()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A reader never follows a link to a page that is not there."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
