"""The medians as a picture: a bar chart of each case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import leather

from benchmarks.model import CaseResult
from benchmarks.report import rows

_WIDTH, _HEIGHT_OF_BAR, _HEIGHT_OF_REST = 900, 34, 90


def write_plot(path: Path, results: Sequence[CaseResult]) -> None:
    """Write an SVG file with one chart under another: times of the baseline's time per item, or microseconds where there is none."""
    grid = leather.Grid()
    tallest = max(len(rows(result)) for result in results)
    for result in results:
        measured = [each for each in rows(result) if each.ratio is not None]
        chart = leather.Chart(f"{result.case.name}: time per item, × {result.case.baseline}")
        chart.add_bars([(each.ratio, f"{each.variant} ({each.micros:.1f} µs)") for each in reversed(measured)])
        chart.add_x_scale(0, max(1.0, *(each.ratio or 0 for each in measured)) * 1.05)
        grid.add_one(chart)
    grid.to_svg(str(path), width=_WIDTH * 2, height=(len(results) + 1) // 2 * (tallest * _HEIGHT_OF_BAR + _HEIGHT_OF_REST))
