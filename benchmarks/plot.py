"""The medians as a picture: bars for each case, one case under another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any

from benchmarks.machine import described
from benchmarks.model import CaseResult
from benchmarks.report import Row, rounds_of, rows

_WIDTH, _MARGIN, _NAMES, _NUMBERS = 900, 20, 190, 190
_LINE, _BAR, _GAP = 22, 15, 34
_CUT_RATIO = 5.0
"""Longer bars end here, marked as cut: one tool that takes a hundred times as long would make all others look the same."""
_LETTERS_PER_LINE = 130
_STYLE = (
    "text{font:13px sans-serif;fill:#222}.case{font-weight:bold}.about{font-size:12px;fill:#666}"
    ".bar{fill:#7a9cc6}.ours{fill:#2b5d9b}.baseline{stroke:#c33;stroke-dasharray:3 3}.cut{fill:#fff}"
)


def plot(results: Sequence[CaseResult], about: Mapping[str, Any]) -> str:
    """An SVG picture of the ratios to the baseline of each case, with the command, the machine and the versions below."""
    parts: list[str] = []
    top = _MARGIN
    for result in results:
        measured = rows(result)
        parts += _chart(result, measured, top)
        top += _LINE * (len(measured) + 2) + _GAP
    notes = [line for text in (str(about["command"]), described(about)) for line in wrap(text, _LETTERS_PER_LINE)]
    parts += [_text(_MARGIN, top + _LINE * at, note, "about") for at, note in enumerate(notes)]
    height = top + _LINE * len(notes) + _MARGIN
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    paper = f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{_STYLE}</style>", paper, *parts, "</svg>\n"])


def _chart(result: CaseResult, measured: Sequence[Row], top: int) -> list[str]:
    ratios = [each.ratio for each in measured if each.ratio is not None]
    longest = min(_CUT_RATIO, max([1.0, *ratios]))
    left, room = _MARGIN + _NAMES, _WIDTH - 2 * _MARGIN - _NAMES - _NUMBERS
    title = f"{result.case.name}{' (few items: not to compare)' if result.is_quick else ''}"
    parts = [_text(_MARGIN, top + _BAR, title, "case"), _text(_MARGIN, top + _LINE + _BAR, _about(result), "about")]
    for at, each in enumerate(measured, 2):
        y = top + _LINE * at
        length = room * min(each.ratio or 0.0, longest) / longest
        kind = "ours" if each.variant.startswith("batchrun") else "bar"
        parts += [_text(left - 8, y + _BAR - 3, each.variant, "name", "end")]
        parts += [f'<rect class="{kind}" x="{left}" y="{y}" width="{length:.1f}" height="{_BAR}"/>']
        if (each.ratio or 0) > longest:
            parts += [f'<rect class="cut" x="{left + length - 14:.1f}" y="{y}" width="5" height="{_BAR}"/>']
        parts += [_text(left + room + 8, y + _BAR - 3, _numbers(each), "number")]
    line = left + room / longest
    bottom = top + _LINE * (len(measured) + 2)
    return [*parts, f'<line class="baseline" x1="{line:.1f}" x2="{line:.1f}" y1="{top + 2 * _LINE - 4}" y2="{bottom}"/>']


def _about(result: CaseResult) -> str:
    return f"time per item, × {result.case.baseline}; {rounds_of(result)}"


def _numbers(each: Row) -> str:
    time = f"{each.micros:.2f} µs" if each.micros < 1_000 else f"{each.micros / 1e3:.1f} ms"
    return f"~{time}, too few items" if each.ratio is None else f"{each.ratio:.2f} × ({time})"


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
