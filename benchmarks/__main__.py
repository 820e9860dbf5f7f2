"""The command: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from polars.exceptions import PolarsError

from benchmarks.cases import GROUPS, cases
from benchmarks.environments import REQUIREMENTS, interpreters
from benchmarks.harness import ROOT, Settings, measure_case
from benchmarks.machine import described, is_busy, machine
from benchmarks.model import BenchmarkError, Case, CaseResult
from benchmarks.plot import plot
from benchmarks.report import as_json, table, untold, verdicts, write_docs

_PAGE = ROOT / "docs" / "performance.md"


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for and report it. What was measured is written after each case, so that nothing can lose it.

    Returns:
        The exit code: 1 when a case failed, or, with `--check`, missed an aim or did not tell; 130 when interrupted.
    """
    options = _options(arguments)
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
    about = {**machine(python_of), "command": _command(options)}
    print(f"{about['command']}\n{described(about)}")
    if is_busy(about):
        _say("others use this machine: times and ratios are partly theirs; only CPU times hold")
    results, failed = [], False
    try:
        for case in cases(options.only):
            result = _measured(case, settings)
            if result is not None:
                results.append(result)
            failed |= result is None or not _is_written(options, results, about)
    except KeyboardInterrupt:
        _say(f"interrupted: {len(results)} cases were measured, the others were not")
        return 130
    finally:
        _write_docs(options, results, about)
    return int(failed or (options.check and not _is_good(results)))


def _measured(case: Case, settings: Settings) -> CaseResult | None:
    try:
        result = measure_case(case, settings)
    except (BenchmarkError, OSError, PolarsError) as error:  # the disk may be full
        _say(f"\n{case.name} could not be measured: {error}")
        return None
    print(f"\n{case.name}: {case.about}\n\n{table(result)}", flush=True)
    return result


def _is_good(results: list[CaseResult]) -> bool:
    """Whether every aim could be judged, and is met."""
    bad = [f"not met: {aim}" for result in results for aim, (_, is_met) in verdicts(result) if not is_met]
    bad += [f"too few items to tell: {aim}" for result in results for aim in untold(result)]
    bad += [f"not measured: {name}" for result in results for name in result.unmeasured]
    for each in bad:
        _say(each)
    return not bad


def _is_written(options: argparse.Namespace, results: list[CaseResult], about: dict[str, object]) -> bool:
    try:
        if options.json is not None:
            _replace(options.json.resolve(), as_json(results, about))
        if options.plot is not None:
            _replace(options.plot.resolve(), plot(results, about))
    except OSError as error:
        _say(f"cannot be written: {error}")
        return False
    return True


def _replace(path: Path, text: str) -> None:
    """Write all of it or nothing: what is there may be all there is of an hour."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_docs(options: argparse.Namespace, results: list[CaseResult], about: dict[str, object]) -> None:
    if options.write_docs is not None and results:
        for name in write_docs(options.write_docs, results, about, _command(options)):
            _say(f"{options.write_docs} has no place for {name}: add <!-- benchmark: {name} --> and <!-- end -->")


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


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    for path in (options.json, options.plot):
        if path is not None and not os.access(path.parent, os.W_OK):
            parser.error(f"{path} cannot be written: there is no folder {path.parent}, or it is not yours")
        if path is not None and path.exists() and not path.is_file():
            parser.error(f"{path} cannot be written: it is not a file")
    if options.write_docs is not None and not os.access(options.write_docs, os.W_OK):
        parser.error(f"{options.write_docs} cannot be written: it must be a page with marks")
    if options.check and options.quick:
        parser.error("--check judges ratios, for which --quick has too few items: leave one of them out")
    return options


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
    parser.add_argument("--rounds", type=_count, metavar="N", help="rounds, whose median counts (default: 5)")
    parser.add_argument("--items", type=_items, default={}, metavar="N | CASE=N,…", help="items in each case; best with --only")
    parser.add_argument("--quick", action="store_true", help="few items, one round: to see that everything runs")
    parser.add_argument("--full", action="store_true", help="also ten million items in the case scale")
    parser.add_argument("--check", action="store_true", help="exit with 1 if an aim is not met, or cannot be judged")
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
        if not count.isdecimal() or not int(count) or (group and group not in GROUPS):
            raise argparse.ArgumentTypeError(f"must be a number, or CASE=NUMBER with a case of {', '.join(GROUPS)}; got {part!r}")
        items[group] = int(count)
    return items


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
