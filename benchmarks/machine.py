"""Where and with what was measured."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.environments import version_of
from benchmarks.service import service_name

_PACKAGES = ("batchrun", "polars", "pyarrow", "orjson", "aiohttp", "httpx", "uvloop")
_MOST_LOAD_RATIO = 0.5


def machine(interpreters: Mapping[str, Path]) -> dict[str, Any]:
    """The machine, its load, and the versions of all that takes part."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "service": service_name(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))}
        | {name: version_of(python, name) for name, python in interpreters.items()},
    }


def described(about: Mapping[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return (
        f"{about['date']}; {about['cpu']}, {about['cores']} cores, load {about['load_average']} at the start; {about['system']}; "
        f"Python {about['python']}; {versions}"
    )


def is_busy(about: Mapping[str, Any]) -> bool:
    """Whether so much ran at the start that it takes time from what is measured."""
    return bool(about["load_average"] > _MOST_LOAD_RATIO * about["cores"])


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
