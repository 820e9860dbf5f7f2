"""What a command imports before it does anything: each module is read, unpacked and run, every time somebody types the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cases import starting

MOST_MODULES = {"batchrun --help": 6, "batchrun validate": 138, "batchrun run, 10 items": 273}
"""Of batchrun; those of libraries are others with each version of Python."""
HEAVY = {
    "batchrun --help": {"polars", "pyarrow", "pydantic", "httpx", "aiohttp", "yaml", "tqdm", "asyncio"},
    "batchrun validate": {"httpx", "aiohttp", "tqdm"},
    "batchrun run, 10 items": {"httpx", "aiohttp"},
}


def imported(words: list[str]) -> set[str]:
    """The modules that a command imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("command", MOST_MODULES)
def test_a_command_imports_no_more_than_it_did(command: str, tmp_path: Path) -> None:
    """An import at the top of a module is harmless where it is written, and paid by everybody who waits for a command."""
    with starting.files(tmp_path, 10) as given:
        words = [word.replace("JOB", given["job"]).replace("FOLDER", str(tmp_path)) for word in starting.WORDS[command]]
    modules = imported(words)
    assert sorted(modules & HEAVY[command]) == []
    own = sorted(name for name in modules if name.partition(".")[0] == "batchrun")
    found, allowed = len(own), MOST_MODULES[command]
    assert found <= allowed, f"{command} imports {found} modules of batchrun, {allowed} are allowed: import it where it is used; {own}"
