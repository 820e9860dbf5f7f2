"""What is said of the measurements: medians, ratios, aims; as a table, as JSON and in the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any

from benchmarks.machine import described
from benchmarks.model import Aim, CaseResult, Measured

_COLUMNS = ("", "time per item", "× baseline", "CPU per item", "peak MiB", "start-up s", "each run s", "items")
_WIDTH = 140
_LEAST_MICROS = 0.001
_ROUGH = "~: too few items. What each run costs whatever its items, which is taken off, was more than a quarter of its time"
_MARKS = re.compile(r"(<!-- benchmark: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The medians of a variant.

    Attributes:
        ratio: median of the ratios of each round to the baseline; null where there is none to compare with, or too few items.
        spread: the lowest and the highest of them.
        is_rough: there were too few items, so that the time per item is mostly chance.
    """

    variant: str
    micros: float
    cpu_micros: float
    peak_mib: float
    start_seconds: float
    fixed_seconds: float
    items: int
    is_rough: bool
    ratio: float | None
    spread: tuple[float, float] | None
    facts: dict[str, float]


def ratios(result: CaseResult, variant: str, against: str, of: Callable[[Measured], float]) -> list[float]:
    """Of each round in which both were measured: ratios of one run hold when the speed of the machine drifts."""
    rounds = [each for each in result.rounds if variant in each and against in each]
    return [of(each[variant]) / of(each[against]) for each in rounds if of(each[against])]


def _of_time(result: CaseResult, variant: str, against: str) -> list[float]:
    if _is_rough(result, variant) or _is_rough(result, against):
        return []
    return ratios(result, variant, against, lambda measured: measured.micros)


def _is_rough(result: CaseResult, variant: str) -> bool:
    found = [each[variant].is_rough for each in result.rounds if variant in each]
    return 2 * sum(found) > len(found)


def row(result: CaseResult, variant: str) -> Row:
    """The medians of one variant."""
    found = [each[variant] for each in result.rounds if variant in each]
    compared = _of_time(result, variant, result.case.baseline)
    facts = {name: median(each.facts[name] for each in found) for name in found[0].facts}
    return Row(
        variant=variant,
        micros=median(each.micros for each in found),
        cpu_micros=median(each.cpu_micros for each in found),
        peak_mib=median(each.peak_mib for each in found),
        start_seconds=median(each.start_seconds for each in found),
        fixed_seconds=median(each.fixed_seconds for each in found),
        items=found[0].items,
        is_rough=_is_rough(result, variant),
        ratio=median(compared) if compared else None,
        spread=(min(compared), max(compared)) if compared else None,
        facts=facts,
    )


def rounds_of(result: CaseResult) -> str:
    """How often was measured."""
    return f"medians of {len(result.rounds)} rounds" if len(result.rounds) > 1 else "one round"


def rows(result: CaseResult) -> list[Row]:
    """All variants that were measured, in the order of the case, the ideal first."""
    names = dict.fromkeys(name for each in result.rounds for name in each)
    return [row(result, name) for name in names]


def judged(result: CaseResult, aim: Aim) -> tuple[float, bool] | None:
    """What an aim came to, and whether it is met; null: its variants were not measured, or with too few items."""
    against = aim.against or result.case.baseline
    if aim.of == "seconds":
        found = [each[aim.variant].micros / 1e6 for each in result.rounds if aim.variant in each]
    elif aim.of == "memory":
        found = ratios(result, aim.variant, against, lambda measured: measured.peak_mib)
    else:
        found = _of_time(result, aim.variant, against)
    return (median(found), median(found) <= aim.at_most) if found else None


def verdicts(result: CaseResult) -> list[tuple[Aim, tuple[float, bool]]]:
    """What became of the aims of a case. None with few items: what an execution costs apart from them would decide."""
    if result.is_quick:
        return []
    return [(aim, verdict) for aim in result.case.aims if (verdict := judged(result, aim)) is not None]


def untold(result: CaseResult) -> list[str]:
    """The aims that cannot be judged though all that they compare was measured: there were too few items."""
    measured = {name for each in result.rounds for name in each}
    asked = [aim for aim in result.case.aims if {aim.variant, aim.against or aim.variant} <= measured]
    return [str(aim) for aim in asked if result.is_quick or judged(result, aim) is None]


def table(result: CaseResult) -> str:
    """A Markdown table, aligned to be read as text, and what became of the aims."""
    medians = rows(result)
    lines = [_COLUMNS, *(_cells(each) for each in medians)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_COLUMNS))]
    text = [_line(line, widths) for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 1) + (":" if at else "-") for at, width in enumerate(widths)) + "|")
    notes = [f"- {_ROUGH}"] if any(each.is_rough for each in medians) else []
    text += [""] if verdicts(result) or result.unmeasured or notes else []
    text += notes
    text += [f"- aim: {_judgement(aim, verdict)}" for aim, verdict in verdicts(result)]
    text += [f"- not measured: {name}: {' '.join(reason.split())}" for name, reason in result.unmeasured.items()]
    return "\n".join(text)


def _judgement(aim: Aim, verdict: tuple[float, bool]) -> str:
    found, is_met = verdict
    shown = f"{found * 1e3:.0f} ms" if aim.of == "seconds" else f"{found:.2f}"
    return f"{aim}: {shown}, {'met' if is_met else 'not met'}"


def _cells(each: Row) -> tuple[str, ...]:
    ratio = "–" if each.ratio is None or each.spread is None else f"{each.ratio:.2f} ({each.spread[0]:.2f}–{each.spread[1]:.2f})"
    is_ideal = each.peak_mib == 0
    told = (_time(each.cpu_micros), f"{each.peak_mib:.0f}", f"{each.start_seconds:.1f}", f"{each.fixed_seconds:.2f}")
    rest = ("–",) * len(told) if is_ideal else told
    return (each.variant, f"{'~' * each.is_rough}{_time(each.micros)}", ratio, *rest, f"{each.items:,}")


def _time(micros: float) -> str:
    if micros < _LEAST_MICROS:
        return "0 µs"
    return f"{micros:.2f} µs" if micros < 1_000 else f"{micros / 1e3:.1f} ms"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    shown = [cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(cells, widths, strict=True))]
    return f"| {' | '.join(shown)} |"


def as_json(results: Iterable[CaseResult], about: Mapping[str, Any]) -> str:
    """Everything: the machine, the medians, and each measurement of each round."""
    cases = [
        {
            "group": result.case.group,
            "case": result.case.name,
            "about": result.case.about,
            "baseline": result.case.baseline,
            "medians": [asdict(each) for each in rows(result)],
            "aims": [{"aim": str(aim), "found": verdict[0], "is_met": verdict[1]} for aim, verdict in verdicts(result)],
            "unmeasured": result.unmeasured,
            "rounds": [{name: asdict(measured) for name, measured in each.items()} for each in result.rounds],
        }
        for result in results
    ]
    return json.dumps({"machine": dict(about), "cases": cases}, indent=2, ensure_ascii=False) + "\n"


def write_docs(page: Path, results: Sequence[CaseResult], about: Mapping[str, Any], command: str) -> list[str]:
    """Put the tables between their marks in a page: `<!-- benchmark: NAME -->`, then anything, then `<!-- end -->`.

    Returns:
        The names of cases that have no marks there.
    """
    texts = {}
    for result in results:
        about_case = result.case.about
        few = "Few items, to show that it runs; not to compare. " if result.is_quick else ""
        note = f"{few}`{command}`, {rounds_of(result)}. {described(about)}."
        made = fill(note, _WIDTH, break_long_words=False, break_on_hyphens=False)
        texts[result.case.name] = f"\n{about_case[0].upper()}{about_case[1:]}.\n\n{table(result)}\n\n{made}\n\n"
    seen: set[str] = set()

    def replaced(match: re.Match[str]) -> str:
        seen.add(match["name"])
        return f"{match[1]}{texts[match['name']]}{match[3]}" if match["name"] in texts else match[0]

    page.write_text(_MARKS.sub(replaced, page.read_text(encoding="utf-8")), encoding="utf-8")
    return sorted(texts.keys() - seen)
