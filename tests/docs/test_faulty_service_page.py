"""What docs/faulty-service.md shows is what happens."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from batchrun.testing.faulty_service import SCRIPTS, SYSTEMS
from batchrun.testing.faulty_service.__main__ import main
from tests.docs.test_docs import ROOT, blocks, run

PAGE = ROOT / "docs/faulty-service.md"
ITEMS = 40


def of(language: str) -> list[str]:
    return [block.text for block in blocks(PAGE) if block.language == language]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "texts.csv").write_text("id,text\n" + "".join(f"{row},text {row}\n" for row in range(ITEMS)))
    return tmp_path


def test_the_job_of_the_page_survives_the_service_of_the_page(folder: Path) -> None:
    """Who copies both sees that no item fails, and the counts the page tells about."""
    command = [sys.executable, *shlex.split(of("sh")[0].replace("--port 8090", "--port 0"))[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            url = service.stdout.readline().strip()
            (folder / "job.yaml").write_text(of("yaml")[0].replace("http://127.0.0.1:8090", url))
            printed = run([sys.executable, "-m", "batchrun", "run", "job.yaml"], folder)
            seen = httpx.get(f"{url}/_seen?paths=/ask").json()
            changes = shlex.split(of("sh")[1].splitlines()[1])[-1]
            assert httpx.put(f"{url}/_faults", content=changes).json()["outages"] == json.loads(changes)["outages"]
        finally:
            service.terminate()
    assert of("text")[0].strip() in printed
    assert len(seen["by_item"]) == ITEMS and seen["by_status"]["429"] > 0


def test_the_python_example_prints_what_the_page_shows(tmp_path: Path) -> None:
    """Who copies the example into a test gets what stands below it."""
    assert run([sys.executable, "-W", "error", "-c", of("python")[0]], tmp_path) == of("text")[1]


def test_every_option_script_and_system_is_on_the_page() -> None:
    """A fault that is not on the page is not found."""
    text = PAGE.read_text()
    assert [option.opts[0] for option in main.params if option.opts[0] not in text] == []
    assert [word for word in SCRIPTS if f"`{word}`" not in text] == []
    assert [system for system in SYSTEMS if f"`/{system}`" not in text] == []
