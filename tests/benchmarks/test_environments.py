from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.environments import REQUIREMENTS, interpreter, version_of
from benchmarks.harness import ROOT


def wheel(folder: Path, version: str) -> str:
    """A package that needs no network to be installed."""
    path = folder / f"tiny-{version}-py3-none-any.whl"
    about = f"tiny-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny.py", "")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", f"tiny.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return str(path)


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path: Path) -> None:
    """What is compared has the versions that the pins say, and nobody waits twice for an installation."""
    pins, folder, said = tmp_path / "tiny.txt", tmp_path / "tiny", []
    pins.write_text("tiny==1.0\n")
    first = wheel(tmp_path, "1.0")
    for _ in range(2):
        python = interpreter("tiny", first, pins, folder, said.append)
        assert version_of(python, "tiny") == "1.0"
    assert len(said) == 1
    pins.write_text("tiny==2.0\n")
    assert version_of(interpreter("tiny", wheel(tmp_path, "2.0"), pins, folder, said.append), "tiny") == "2.0"
    assert len(said) == 2


def test_an_installation_that_fails_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    """The next attempt must try again, not measure half an environment."""
    pins = tmp_path / "tiny.txt"
    pins.write_text("tiny==2.0\n")
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            interpreter("tiny", str(tmp_path / "missing.whl"), pins, tmp_path / "tiny", lambda _: None)


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_tool_has_exact_pins(name: str) -> None:
    """Ratios to another tool mean something only with its version."""
    lines = (ROOT / "benchmarks/peers" / f"{name}.txt").read_text().splitlines()
    assert any(line.startswith(f"{name}==") for line in lines)
    assert [line for line in lines if "==" not in line] == []
