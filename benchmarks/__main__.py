"""The command: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.cases import GROUPS, cases
from benchmarks.environments import REQUIREMENTS, interpreters
from benchmarks.harness import ROOT, Settings, measure_case
from benchmarks.machine import described, machine
from benchmarks.model import BenchmarkError, CaseResult
from benchmarks.plot import write_plot
from benchmarks.report import as_json, table, verdicts, write_docs

_PAGE = ROOT / "docs" / "performance.md"


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for and report it. Returns the exit code: 1 when a case failed, or, with `--check`, missed an aim."""
    options = _parser().parse_args(arguments)
    python_of, missing = interpreters(options.peers, _say)
    settings = Settings(
        rounds=options.rounds or (1 if options.quick else 5),
        is_quick=options.quick,
        is_full=options.full,
        items=options.items,
        interpreters=python_of,
        missing=missing,
        say=_say,
    )
    about = machine(python_of)
    print(described(about))
    results, failed = _measure(options.only, settings)
    _write(options, results, about)
    unmet = [str(aim) for result in results for aim, (_, is_met) in verdicts(result) if not is_met]
    return int(bool(failed) or (options.check and bool(unmet)))


def _measure(only: tuple[str, ...], settings: Settings) -> tuple[list[CaseResult], list[str]]:
    results, failed = [], []
    for case in cases(only):
        try:
            results.append(measure_case(case, settings))
        except BenchmarkError as error:
            failed.append(case.name)
            print(f"\n{case.name} could not be measured: {error}", file=sys.stderr)
            continue
        print(f"\n{case.name}: {case.about}\n\n{table(results[-1])}", flush=True)
    return results, failed


def _write(options: argparse.Namespace, results: list[CaseResult], about: dict[str, object]) -> None:
    if options.json is not None:
        options.json.write_text(as_json(results, about), encoding="utf-8")
    if options.plot is not None and results:
        write_plot(options.plot, results)
    if options.write_docs is not None:
        for name in write_docs(options.write_docs, results, about, _command(options)):
            print(f"{options.write_docs} has no place for {name}: add <!-- benchmark: {name} --> and <!-- end -->", file=sys.stderr)


def _command(options: argparse.Namespace) -> str:
    """What was measured, as a command: without the files that results went to."""
    flags = [f"--{name}" for name in ("quick", "full") if getattr(options, name)]
    named = {
        "only": ",".join(options.only),
        "peers": ",".join(options.peers),
        "rounds": options.rounds or "",
        "items": ",".join(f"{group}={count}" if group else str(count) for group, count in options.items.items()),
    }
    return " ".join(["python -m benchmarks", *flags, *(f"--{name} {value}" for name, value in named.items() if value)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure batchrun beside hand-written programs and other tools: each measurement in a process of its own, all in turn.",
        epilog=f"cases: {', '.join(GROUPS)}; tools: {', '.join(REQUIREMENTS)}",
    )
    parser.add_argument("--only", type=_names(GROUPS), default=(), metavar="CASE,…", help="measure these cases; else all")
    parser.add_argument(
        "--peers",
        type=_names(tuple(REQUIREMENTS)),
        default=(),
        metavar="TOOL,…",
        help="measure these, too; they go into .venv/peers",
    )
    parser.add_argument("--rounds", type=int, help="rounds, whose median counts (default: 5)")
    parser.add_argument("--items", type=_items, default={}, metavar="N | CASE=N,…", help="items in each case; best with --only")
    parser.add_argument("--quick", action="store_true", help="few items, one round: to see that everything runs")
    parser.add_argument("--full", action="store_true", help="also ten million items in the case scale")
    parser.add_argument("--check", action="store_true", help="exit with 1 if an aim is not met (never with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios as SVG")
    parser.add_argument(
        "--write-docs", type=Path, nargs="?", const=_PAGE, metavar="FILE", help="put the tables into docs/performance.md, or another page"
    )
    return parser


def _names(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        found = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in found:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(allowed)}")
        return found

    return names


def _items(text: str) -> dict[str, int]:
    items = {}
    for part in text.split(","):
        group, _, count = part.rpartition("=")
        if not count.isdigit() or not int(count) or (group and group not in GROUPS):
            raise argparse.ArgumentTypeError(f"must be a number, or CASE=NUMBER with a case of {', '.join(GROUPS)}; got {part!r}")
        items[group] = int(count)
    return items


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
