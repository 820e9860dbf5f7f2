"""Environments of other tools: made when they are asked for, and again when their pins change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import ROOT

REQUIREMENTS = {"daft": "daft", "ray": "ray[data]", "datasets": "datasets", "datachain": "datachain"}
"""What is installed for each tool, with the versions in `benchmarks/peers/NAME.txt`: their pins exclude one another."""

_ENVIRONMENTS = ROOT / ".venv" / "peers"
_SHOWN = 300


def interpreters(names: tuple[str, ...], say: Callable[[str], None]) -> tuple[dict[str, Path], dict[str, str]]:
    """The Python of each tool, and why each of the others cannot be had."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = interpreter(name, REQUIREMENTS[name], ROOT / "benchmarks" / "peers" / f"{name}.txt", _ENVIRONMENTS / name, say)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            missing[name] = f"cannot be installed: {said.strip()[-_SHOWN:]}"
            say(f"{name} {missing[name]}")
    return found, missing


def interpreter(name: str, requirement: str, pins: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """The Python of an environment with one requirement, made if it is not there as the pins say.

    Raises:
        subprocess.CalledProcessError: it cannot be installed.
        OSError: the environment or the pins cannot be read or written.
    """
    stamp, wanted = folder / ".installed", f"{requirement} {sys.version}\n{pins.read_text(encoding='utf-8')}"
    python = folder / "bin" / "python"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    say(f"{name}: installing into {folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder}")
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", "--no-compile", "--constraint", str(pins), requirement)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def version_of(python: Path, name: str) -> str:
    """The version of a tool in its environment."""
    program = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, text=True, check=True)
