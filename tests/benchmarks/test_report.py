from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases.dispatch import CASES
from benchmarks.model import Aim, Case, CaseResult, Measured
from benchmarks.plot import plot
from benchmarks.report import judged, row, table, untold, verdicts, write_docs

ABOUT = {
    "date": "2026-11-21",
    "cpu": "a CPU",
    "cores": 2,
    "load_average": 0.1,
    "system": "Linux 6",
    "python": "3.11.7",
    "versions": {"x": "1"},
}


def measured(seconds: float, **other: Any) -> Measured:
    return Measured(**{"seconds": seconds, "cpu_seconds": seconds, "peak_mib": 100, "start_seconds": 1, "items": 1_000, **other})


def result(*rounds: tuple[float, float], aims: tuple[Aim, ...] = (), is_quick: bool = False) -> CaseResult:
    (dispatch,) = CASES
    case = Case(
        group="g",
        name="dispatch",
        about="made up",
        baseline="loop",
        variants=dispatch.variants,
        files=dispatch.files,
        items=1,
        quick_items=1,
        aims=aims,
    )
    made = tuple({"loop": measured(loop), "batchrun": measured(ours, peak_mib=130)} for loop, ours in rounds)
    return CaseResult(case=case, rounds=made, unmeasured={"Ray Data": "cannot be\ninstalled"}, is_quick=is_quick)


def test_ratios_are_taken_within_a_round() -> None:
    """When the machine slows down to half in the middle, the ratio of the medians is wrong, and the median of the ratios is right."""
    found = row(result((1.0, 1.2), (2.0, 2.4), (2.0, 2.6)), "batchrun")
    assert found.ratio == pytest.approx(1.2)
    assert found.spread == (pytest.approx(1.2), pytest.approx(1.3))
    assert found.micros == pytest.approx(2_400)


def test_what_does_not_depend_on_the_items_is_taken_off() -> None:
    """Start-up is told apart, and is not spread over the items."""
    assert measured(1.5, fixed_seconds=0.5).micros == pytest.approx(1_000)


def test_ratios_that_are_mostly_chance_are_not_told() -> None:
    """When nearly all of the time is taken off, a slow tool can look like the fastest of all."""
    aims = (Aim(variant="batchrun", at_most=1.3, against="loop"),)
    found = result((1.0, 1.0), aims=aims)
    rough = replace(found, rounds=({"loop": measured(1.0), "batchrun": measured(10.0, fixed_seconds=9.99)},))
    assert row(rough, "batchrun").ratio is None
    assert verdicts(rough) == []
    assert untold(rough) == [str(aims[0])]
    assert untold(found) == []
    assert "~10.00 µs" in table(rough)
    assert "~: too few items" in table(rough)


def test_the_picture_says_what_the_table_says() -> None:
    """A picture without the machine, the versions and the command is passed on without them."""
    drawn = plot([result((1.0, 20.0))], {**ABOUT, "command": "python -m benchmarks --quick"})
    assert drawn.startswith("<svg ")
    assert drawn.endswith("</svg>\n")
    for said in ("dispatch", "× loop; one round", "20.00 × (20.0 ms)", "a CPU, 2 cores", "x 1", "python -m benchmarks --quick"):
        assert said in drawn


def test_aims_are_judged_by_the_medians() -> None:
    """Whoever runs the benchmarks sees at once what became of each promise, and nothing where there were too few items to tell."""
    aims = (
        Aim(variant="batchrun", at_most=1.3, against="loop"),
        Aim(variant="batchrun", at_most=1.2, against="loop", of="memory"),
        Aim(variant="batchrun", at_most=0.001, of="seconds"),
        Aim(variant="batchrun", at_most=0.2, against="DataChain"),
    )
    found = result((1.0, 1.25), aims=aims)
    assert [judged(found, aim) for aim in aims] == [(1.25, True), (1.3, False), (pytest.approx(0.00125), False), None]
    assert "- aim: batchrun: ≤ 1.20 × the memory of loop: 1.30, not met" in table(found)
    assert verdicts(result((1.0, 1.25), aims=aims, is_quick=True)) == []


def test_the_table_says_what_was_not_measured() -> None:
    """A tool that could not be installed is in the table's notes, with the reason."""
    assert table(result((1.0, 1.0))).splitlines()[-1] == "- not measured: Ray Data: cannot be installed"


def test_tables_go_between_their_marks_and_nothing_else_changes(tmp_path: Path) -> None:
    """The figures in the docs are those of one command, and the text around them is that of people."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n<!-- benchmark: other -->\nkept\n<!-- end -->\ntext\n<!-- benchmark: dispatch -->\n<!-- end -->\n")
    assert write_docs(page, [result((1.0, 1.1))], ABOUT, "python -m benchmarks") == []
    once = page.read_text()
    assert once.startswith("# Page\n<!-- benchmark: other -->\nkept\n<!-- end -->\ntext\n<!-- benchmark: dispatch -->\n")
    assert "| batchrun |" in once
    assert "`python -m benchmarks`, one round. 2026-11-21; a CPU, 2 cores" in once
    write_docs(page, [result((1.0, 1.1))], ABOUT, "python -m benchmarks")
    assert page.read_text() == once
