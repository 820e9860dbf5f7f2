"""The commands and the program of docs/refresh.md do what the page says."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchrun.core.refreshes import RefreshPlan
from tests.docs.test_docs import ROOT, blocks

PAGE = ROOT / "docs/refresh.md"
JOB = """\
name: tickets
dataset: {path: sample_data/airports.parquet, id: icao, limit: 500}
workflow:
  nodes:
    - {id: note, type: template, template: "{{ item.name }}"}
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A folder with a job over the sample data, and `batchrun` on the path as cron needs it."""
    shutil.copytree(ROOT / "sample_data", tmp_path / "sample_data")
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/batchrun").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m batchrun "$@"\n')
    (tmp_path / "bin/batchrun").chmod(0o700)
    return tmp_path


def run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "BATCHRUN_HOME"}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done


def page_blocks(language: str) -> list[str]:
    return [block.text for block in blocks(PAGE) if block.language == language]


def test_the_commands_and_the_line_for_cron_work(user: Path) -> None:
    """Both as they are written, the line for cron as a shell gets it."""
    (commands,) = page_blocks("sh")
    for line in commands.splitlines():
        run(user, shlex.split(line, comments=True))
    (cron,) = [text for text in page_blocks("text") if "cron" not in text and text.startswith("*")]
    command = cron.split(maxsplit=5)[5].replace("/srv/tickets", str(user))
    for _ in range(2):
        run(user, ["/bin/sh", "-c", command])
    assert len(list((user / "runs").iterdir())) == 1
    assert (user / "refresh.log").read_text() == ""


def test_the_line_of_the_page_is_what_such_a_plan_says() -> None:
    """People look for these words in their terminal."""
    plan = RefreshPlan(
        base_id="earlier", total_items=4_015, full_items=15, partial_items=4_000, new_items=12, changed_items=3, edited_nodes=("classify",)
    )
    assert plan.text in [text.strip() for text in page_blocks("text")]


def test_the_program_of_the_page_runs(user: Path) -> None:
    """A notebook user can paste it."""
    (program,) = page_blocks("python")
    lines = run(user, [sys.executable, "-W", "error", "-c", program]).stdout.splitlines()
    assert lines == ["1 changed → 1 item in full, 2 items reused", "['\"ONE\"', '\"TOO\"', '\"THREE\"'] 2", "True"]
