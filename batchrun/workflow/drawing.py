"""Drawings of a workflow: a Mermaid flowchart, or a picture as SVG."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from typing import Literal, TypeAlias

from batchrun.core.job import Workflow
from batchrun.workflow.layout import Line, Point, Route, Size, layered
from batchrun.workflow.sketch import Box, Kind, Link, sketch

Form: TypeAlias = Literal["mermaid", "svg"]

_MOST_CHARS = 40
_MOST_LABEL_CHARS = 28
_MARGIN = 24.0
_LINE_HEIGHT = 18.0
_PADDING = Size(16, 11)
_LABEL_HEIGHT = 20.0
_SLANT = 14.0  # of the ends of a switch
_HEAD = Size(9, 8)
_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE = """
.workflow { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.workflow .id { font-weight: 600; fill: #17212b; }
.workflow .about { font-size: 12px; fill: #5b6875; }
.workflow .when { font-size: 12px; font-style: italic; fill: #7a5300; }
.workflow .box { stroke-width: 1.3; }
.workflow .node { fill: #f3f7fc; stroke: #6b8bb5; }
.workflow .switch { fill: #fff8e3; stroke: #c39a3a; }
.workflow .fallback { fill: #fdf2f0; stroke: #c77a70; stroke-dasharray: 5 3; }
.workflow .line { fill: none; stroke: #8592a0; stroke-width: 1.4; }
.workflow .case { stroke: #b68a25; stroke-dasharray: 5 4; }
.workflow .failure { stroke: #c0655a; stroke-dasharray: 5 4; }
.workflow .head { fill: #8592a0; }
.workflow .head.case { fill: #b68a25; }
.workflow .head.failure { fill: #c0655a; }
.workflow .label { font-size: 12px; }
.workflow .label.case { fill: #7a5300; stroke: none; }
.workflow .label.failure { fill: #9c4137; stroke: none; }
"""
_CLASSES = {"reads": "", "case": " case", "on failure": " failure", "in its place": " failure"}


def draw(workflow: Workflow, form: Form) -> str:
    """Draw a workflow that can be compiled.

    Example:
        >>> from batchrun.nodes.template import TemplateNode
        >>> print(draw(Workflow(nodes=(TemplateNode(id="hello", template="Hello"),)), "mermaid"), end="")
        flowchart TD
            n_hello["hello<br/>template"]
    """
    return mermaid(workflow) if form == "mermaid" else svg(workflow)


def mermaid(workflow: Workflow) -> str:
    """A workflow as a Mermaid flowchart, which Markdown pages can hold."""
    boxes, links = sketch(workflow)
    lines = ["flowchart TD"]
    for box in boxes:
        text = "<br/>".join(_mermaid_text(part) for _, part in _texts(box))
        lines.append(f'    n_{box.id}{{{{"{text}"}}}}' if box.kind == "switch" else f'    n_{box.id}["{text}"]')
    for link in links:
        arrow = "-->" if link.kind == "reads" else "-.->"
        if link.label is not None:
            arrow = f'-. "{_mermaid_text(_shortened(link.label, _MOST_LABEL_CHARS))}" .->'
        lines.append(f"    n_{link.source} {arrow} n_{link.target}")
    fallbacks = [f"n_{box.id}" for box in boxes if box.kind == "fallback"]
    if fallbacks:
        lines += ["    classDef fallback stroke-dasharray: 5 3", f"    class {','.join(fallbacks)} fallback"]
    return "\n".join(lines) + "\n"


def svg(workflow: Workflow) -> str:
    """A workflow as a picture that needs nothing else: no script, no font, no other file."""
    boxes, links = sketch(workflow)
    sizes = {box.id: _box_size(box) for box in boxes}
    layout = layered(sizes, [Line(link.source, link.target, _label_size(link)) for link in links])
    width, height = (round(side + 2 * _MARGIN) for side in layout.size)
    drawn = list(zip(links, layout.routes, strict=True))
    shapes = [
        *(_line(link, route) for link, route in drawn),
        *(_label(link, route.label) for link, route in drawn if route.label is not None),
        *(_box(box, layout.boxes[box.id], sizes[box.id]) for box in boxes),
    ]
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" class="workflow" width="{width}" height="{height}" '
                f'viewBox="{-_MARGIN:g} {-_MARGIN:g} {width} {height}" role="img" aria-label="workflow of {len(boxes)} nodes">'
            ),
            f"<style>{_STYLE}</style>",
            f'<rect x="{-_MARGIN:g}" y="{-_MARGIN:g}" width="{width}" height="{height}" fill="#fff"/>',
            *shapes,
            "</svg>\n",
        ]
    )


def _texts(box: Box) -> Iterator[tuple[str, str]]:
    """The lines of text in a box, each with its class."""
    yield "id", _shortened(box.id, _MOST_CHARS)
    yield "about", _shortened(box.about, _MOST_CHARS)
    if box.condition is not None:
        yield "when", _shortened(f"when {box.condition}", _MOST_CHARS)


def _box_size(box: Box) -> Size:
    texts = list(_texts(box))
    text_width = max(_text_width(text, 15 if kind == "id" else 12) for kind, text in texts)
    width = max(text_width + 2 * _PADDING.width, 84) + (2 * _SLANT if box.kind == "switch" else 0)
    return Size(round(width), _LINE_HEIGHT * len(texts) + 2 * _PADDING.height)


def _label_size(link: Link) -> Size | None:
    return None if link.label is None else Size(_text_width(_shortened(link.label, _MOST_LABEL_CHARS), 12) + 12, _LABEL_HEIGHT)


def _box(box: Box, at: Point, size: Size) -> str:
    top = at.y - size.height / 2
    full = f"{box.id}\n{box.about}" + (f"\nwhen {box.condition}" if box.condition is not None else "")
    lines = [f"<g><title>{_xml_text(full)}</title>{_outline(box.kind, at, size)}"]
    for number, (kind, text) in enumerate(_texts(box)):
        y = top + _PADDING.height + _LINE_HEIGHT * (number + 0.5) + 4.5
        lines.append(f'<text class="{kind}" x="{at.x:.1f}" y="{y:.1f}" text-anchor="middle">{_xml_text(text)}</text>')
    return "".join([*lines, "</g>"])


def _outline(kind: Kind, at: Point, size: Size) -> str:
    left, right, top, bottom = at.x - size.width / 2, at.x + size.width / 2, at.y - size.height / 2, at.y + size.height / 2
    if kind == "switch":
        corners = [
            (left + _SLANT, top),
            (right - _SLANT, top),
            (right, at.y),
            (right - _SLANT, bottom),
            (left + _SLANT, bottom),
            (left, at.y),
        ]
        return f'<polygon class="box switch" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>'
    return f'<rect class="box {kind}" x="{left:.1f}" y="{top:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="7"/>'


def _line(link: Link, route: Route) -> str:
    *way, end = route.points
    way.append(Point(end.x, end.y - _HEAD.height + 1))
    path = f"M{way[0].x:.1f},{way[0].y:.1f}"
    for before, after in pairwise(way):
        middle = (before.y + after.y) / 2
        is_straight = abs(before.x - after.x) < 0.05
        path += (
            f" V{after.y:.1f}" if is_straight else f" C{before.x:.1f},{middle:.1f} {after.x:.1f},{middle:.1f} {after.x:.1f},{after.y:.1f}"
        )
    kind, half = _CLASSES[link.kind], _HEAD.width / 2
    head = f"M{end.x - half:.1f},{end.y - _HEAD.height:.1f} h{_HEAD.width:g} L{end.x:.1f},{end.y:.1f} Z"
    return f'<path class="line{kind}" d="{path}"/><path class="head{kind}" d="{head}"/>'


def _label(link: Link, at: Point) -> str:
    size, text = _label_size(link) or Size(0, 0), link.label or ""
    return (
        f'<g><title>{_xml_text(text)}</title><rect x="{at.x - size.width / 2:.1f}" y="{at.y - size.height / 2:.1f}" '
        f'width="{size.width:.1f}" height="{size.height:.1f}" rx="4" fill="#fff"/>'
        f'<text class="label{_CLASSES[link.kind]}" x="{at.x:.1f}" y="{at.y + 4:.1f}" text-anchor="middle">'
        f"{_xml_text(_shortened(text, _MOST_LABEL_CHARS))}</text></g>"
    )


def _shortened(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _text_width(text: str, size: float) -> float:
    """About how wide a text is in a usual sans-serif font, on the wide side."""
    return sum(map(_char_width, text)) * size


def _char_width(char: str) -> float:
    if unicodedata.combining(char):
        return 0.0
    if unicodedata.east_asian_width(char) in "WF":
        return 1.05
    if char in "iljtf.,:;'|!()[]{} ":
        return 0.36
    return 0.88 if char in "mwMW@%—…" else 0.7 if char.isupper() else 0.6


def _xml_text(text: str) -> str:
    return escape(_NOT_IN_XML.sub("\ufffd", text))


def _mermaid_text(text: str) -> str:
    """Text between quotes: whatever may mean something to Mermaid, or to HTML, is written as its number."""
    return re.sub(r"[^\w .,:/()+*=…·-]", lambda found: f"#{ord(found[0])};", _NOT_IN_XML.sub("\ufffd", text))
