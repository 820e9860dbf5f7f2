"""Measures cases: every measurement in a new process, all variants of a case in turn, several rounds."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.child import TICKS_PER_SECOND, descendants, kill_tree
from benchmarks.model import BenchmarkError, Case, CaseResult, Measured, Round, Variant

ROOT = Path(__file__).parents[1]
_MIB = 2**20
_SAMPLE_SECONDS = 0.2
_TIMEOUT_SECONDS = 3600
_QUICK_DIVISOR = 10
_SILENT = {"DO_NOT_TRACK": "1", "DAFT_ANALYTICS_ENABLED": "0", "DATACHAIN_NO_ANALYTICS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
"""Other tools shall measure nothing themselves, nor call home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is measured.

    Attributes:
        interpreters: the Python of each other tool that was asked for and could be installed.
        missing: why each of the others could not.
        say: is told what is going on.
    """

    rounds: int = 5
    is_quick: bool = False
    is_full: bool = False
    items: Mapping[str, int] = field(default_factory=dict)
    interpreters: Mapping[str, Path] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None

    def items_of(self, case: Case) -> int:
        """How many items a case is given."""
        return self.items.get(case.group, self.items.get("", case.quick_items if self.is_quick else case.items))


def measure_case(case: Case, settings: Settings) -> CaseResult:
    """Measure all variants of a case in turn, round by round, so that the ratios hold when the speed of the machine drifts.

    Raises:
        BenchmarkError: batchrun or a hand-written program failed or did too little. What other tools do wrong is in the result.
    """
    items = settings.items_of(case)
    variants = [variant for variant in case.variants if settings.is_full or not variant.is_for_full]
    wanted = [variant for variant in variants if variant.peer is None or variant.peer in settings.interpreters]
    unmeasured = {variant.name: settings.missing[variant.peer] for variant in variants if variant.peer and variant.peer in settings.missing}
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="batchrun-bench-") as name, case.files(Path(name), items) as arguments:
        for number in range(1, settings.rounds + 1):
            measured: Round = {}
            if case.ideal_seconds is not None:
                ideal = case.ideal_seconds(items)
                measured["ideal"] = Measured(seconds=ideal, cpu_seconds=0, peak_mib=0, start_seconds=0, items=items)
            for variant in wanted:
                if variant.name in unmeasured:
                    continue
                settings.say(f"{case.name}, round {number} of {settings.rounds}: {variant.name}")
                try:
                    measured[variant.name] = _measured(variant, arguments, items, settings, Path(name))
                except BenchmarkError as error:
                    if variant.peer is None:
                        raise
                    unmeasured[variant.name] = str(error)
            rounds.append(measured)
    return CaseResult(case=case, rounds=tuple(rounds), unmeasured=unmeasured, is_quick=settings.is_quick)


def _measured(variant: Variant, given: Mapping[str, Any], items: int, settings: Settings, folder: Path) -> Measured:
    count = items * variant.share if variant.items is None else variant.items / (_QUICK_DIVISOR if settings.is_quick else 1)
    python = sys.executable if variant.peer is None else str(settings.interpreters[variant.peer])
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        arguments = {**given, **variant.arguments, "items": max(1, int(count)), "folder": scratch}
        return measure(variant.call, arguments, python)


def measure(call: str, arguments: Mapping[str, Any], python: str = sys.executable) -> Measured:
    """Call a function in a new process and measure what it returns; see `Variant.call`.

    Args:
        call: `module:function`.
        arguments: its keyword arguments, JSON values; `items` and `folder` are among them.
        python: the interpreter.

    Raises:
        BenchmarkError: it failed, or did not do all items.
    """
    answer = Path(arguments["folder"]) / "answer.json"
    task = {"call": call, "arguments": dict(arguments), "answer": str(answer), "started": time.monotonic()}
    environment = {**os.environ, **_SILENT, "BATCHRUN_HOME": str(Path(arguments["folder"]) / "home"), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as said:
        command = [python, "-m", "benchmarks.child", json.dumps(task)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=said, stderr=said)
        with _Sampler(process.pid) as sampler:
            try:
                process.wait(_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise BenchmarkError(f"{call} took more than {_TIMEOUT_SECONDS:,} s") from error
            finally:
                _end(process)
        said.seek(0)
        text = said.read().decode(errors="replace")
    if process.returncode or not answer.exists():
        raise BenchmarkError(f"{call} ended with {process.returncode}: {text.strip()[-2_000:]}")
    told = json.loads(answer.read_text(encoding="utf-8"))
    if told["items"] != arguments["items"]:
        raise BenchmarkError(f"{call} did {told['items']} of {arguments['items']} items")
    cpu_seconds = max(told["cpu_seconds"], sampler.cpu_seconds(told.pop("began"), told.pop("ended")))
    return Measured(**{**told, "cpu_seconds": cpu_seconds, "peak_mib": max(told["peak_mib"], sampler.peak_mib)})


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with all that it started: nothing of it may run beside the next measurement."""
    if process.poll() is None:
        kill_tree(process.pid)
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


class _Sampler:
    """Watches the resident memory and the CPU time of a process and all below it."""

    def __init__(self, pid: int) -> None:
        self.peak_mib = 0.0
        self._pid = pid
        self._spent: dict[int, list[tuple[float, float]]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def cpu_seconds(self, began: float, ended: float) -> float:
        """What all processes spent between two moments, as far as it was seen: also those whose parents do not care how they end."""
        total = 0.0
        for spent in self._spent.values():
            during = [seconds for moment, seconds in spent if began <= moment <= ended]
            is_new = spent[0][0] >= began
            total += during[-1] - (0.0 if is_new else during[0]) if during else 0.0
        return total

    def _watch(self) -> None:
        page = resource.getpagesize()
        while not self._ended.wait(_SAMPLE_SECONDS):
            now = time.monotonic()
            below = dict(descendants(self._pid))
            for number, fields in below.items():
                self._spent.setdefault(number, []).append((now, sum(map(int, fields[11:13])) / TICKS_PER_SECOND))
            if below:  # a process alone tells its own peak, exactly
                self.peak_mib = max(self.peak_mib, sum(map(_resident_pages, (self._pid, *below))) * page / _MIB)


def _resident_pages(pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):  # it has ended, or there is no /proc
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return 0
