"""Drawings of a workflow: a Mermaid flowchart, or a picture as SVG."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from html import escape
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from batchrun.core.job import Workflow
from batchrun.workflows.layout import Line, Point, Route, Size, layered
from batchrun.workflows.sketch import Box, Kind, Link, sketch

Form: TypeAlias = Literal["mermaid", "svg"]


class Note(NamedTuple):
    """What is said of a node below its name.

    Attributes:
        is_bad: whether it is something to look at.
    """

    text: str
    is_bad: bool = False


_MOST_CHARS = 40
_MOST_LABEL_CHARS = 28
_MARGIN = 24.0
_LINE_HEIGHT = 18.0
_PADDING = Size(16, 11)
_LABEL_HEIGHT = 20.0
_FRAME = 16.0  # between the frame of a node and the workflow within
_SLANT = 14.0  # of the ends of a switch, and room for those of an approval
_HEAD = Size(9, 8)
_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE = """
.workflow { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.workflow .id { font-weight: 600; fill: #17212b; }
.workflow .about { font-size: 12px; fill: #5b6875; }
.workflow .when { font-size: 12px; font-style: italic; fill: #7a5300; }
.workflow .note { font-size: 12px; fill: #2f6b4f; }
.workflow .note.bad { fill: #b3372b; }
.workflow .box { stroke-width: 1.3; }
.workflow .node { fill: #f3f7fc; stroke: #6b8bb5; }
.workflow .frame { fill: #fafbfd; stroke: #9aacc4; }
.workflow .switch { fill: #fff8e3; stroke: #c39a3a; }
.workflow .approval { fill: #f1f8f1; stroke: #6f9f74; }
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
_MERMAID_SHAPES = {"switch": ("{{", "}}"), "approval": ("([", "])")}
_CLASSES = {"reads": "", "case": " case", "on failure": " failure", "in its place": " failure"}


def draw(workflow: Workflow, form: Form, notes: Mapping[str, Note] = MappingProxyType({})) -> str:
    """Draw a workflow that can be compiled.

    Args:
        workflow: what is drawn.
        form: as Mermaid text or as a picture.
        notes: what is said below each node, by its id.

    Example:
        >>> from batchrun.nodes.template import TemplateNode
        >>> print(draw(Workflow(nodes=(TemplateNode(id="hello", template="Hello"),)), "mermaid"), end="")
        flowchart TD
            n_hello["hello<br/>template"]
    """
    return mermaid(workflow, notes) if form == "mermaid" else svg(workflow, notes)


def mermaid(workflow: Workflow, notes: Mapping[str, Note] = MappingProxyType({})) -> str:
    """A workflow as a Mermaid flowchart, which Markdown pages can hold."""
    fallbacks: list[str] = []
    lines = ["flowchart TD", *(f"    {line}" for line in _mermaid_lines(workflow, notes, ("n",), fallbacks))]
    if fallbacks:
        lines += ["    classDef fallback stroke-dasharray: 5 3", f"    class {','.join(fallbacks)} fallback"]
    return "\n".join(lines) + "\n"


def _mermaid_lines(workflow: Workflow, notes: Mapping[str, Note], path: tuple[str, ...], fallbacks: list[str]) -> Iterator[str]:
    """The lines of a workflow, which is within the nodes of `path`. Names of fallbacks are added to `fallbacks`."""
    boxes, links = sketch(workflow)
    start_of_name = f"{path[0]}_" if len(path) == 1 else f"{path[0]}{len(path)}_{'_'.join(path[1:])}_"  # no outer node has such a name
    for box in boxes:
        name = f"{start_of_name}{box.id}"
        text = "<br/>".join(_mermaid_text(part) for _, part in _texts(box, notes.get(_full_id(path, box))))
        start, end = _MERMAID_SHAPES.get(box.kind, ("[", "]"))
        if box.kind == "fallback":
            fallbacks.append(name)
        if box.held is None:
            yield f'{name}{start}"{text}"{end}'
            continue
        yield f'subgraph {name}["{text}"]'
        for line in _mermaid_lines(box.held, notes, (*path, box.id), fallbacks):
            yield f"    {line}"
        yield "end"
    for link in links:
        arrow = "-->" if link.kind == "reads" else "-.->"
        if link.label is not None:
            arrow = f'-. "{_mermaid_text(_shortened(link.label, _MOST_LABEL_CHARS))}" .->'
        yield f"{start_of_name}{link.source} {arrow} {start_of_name}{link.target}"


def _full_id(path: tuple[str, ...], box: Box) -> str:
    """What a node within others is called in the result."""
    return ".".join([*path[1:], box.id])


def svg(workflow: Workflow, notes: Mapping[str, Note] = MappingProxyType({})) -> str:
    """A workflow as a picture that needs nothing else: no script, no font, no other file."""
    picture = _picture(workflow, notes, ("svg",))
    width, height = (round(side + 2 * _MARGIN) for side in picture.size)
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" class="workflow" width="{width}" height="{height}" '
                f'viewBox="{-_MARGIN:g} {-_MARGIN:g} {width} {height}" role="img" aria-label="workflow of {len(workflow.nodes)} nodes">'
            ),
            f"<style>{_STYLE}</style>",
            f'<rect x="{-_MARGIN:g}" y="{-_MARGIN:g}" width="{width}" height="{height}" fill="#fff"/>',
            *picture.shapes,
            "</svg>\n",
        ]
    )


class _Picture(NamedTuple):
    """Shapes from 0, 0 to `size`."""

    size: Size
    shapes: list[str]


def _picture(workflow: Workflow, notes: Mapping[str, Note], path: tuple[str, ...]) -> _Picture:
    """The picture of a workflow, which is within the nodes of `path`."""
    boxes, links = sketch(workflow)
    held = {box.id: _picture(box.held, notes, (*path, box.id)) for box in boxes if box.held is not None}
    told = {box.id: notes.get(_full_id(path, box)) for box in boxes}
    sizes = {box.id: _box_size(box, told[box.id], held.get(box.id)) for box in boxes}
    layout = layered(sizes, [Line(link.source, link.target, _label_size(link)) for link in links])
    drawn = list(zip(links, layout.routes, strict=True))
    shapes = [
        *(_line(link, route) for link, route in drawn),
        *(_label(link, route.label) for link, route in drawn if route.label is not None),
    ]
    for box in boxes:
        at, size = layout.boxes[box.id], sizes[box.id]
        shapes.append(_box(box, at, size, told[box.id]))
        if box.id in held:
            inner = held[box.id]
            x, y = at.x - inner.size.width / 2, at.y + size.height / 2 - inner.size.height - _FRAME
            shapes += [f'<g transform="translate({x:.1f},{y:.1f})">', *inner.shapes, "</g>"]
    return _Picture(layout.size, shapes)


def _texts(box: Box, note: Note | None = None) -> Iterator[tuple[str, str]]:
    """The lines of text in a box, each with its class."""
    yield "id", _shortened(box.id, _MOST_CHARS)
    yield "about", _shortened(box.about, _MOST_CHARS)
    if box.elements is not None:
        yield "about", _shortened(f"for each of {box.elements}", _MOST_CHARS)
    if box.condition is not None:
        yield "when", _shortened(f"when {box.condition}", _MOST_CHARS)
    if note is not None:
        yield "note bad" if note.is_bad else "note", _shortened(note.text, _MOST_CHARS)


def _box_size(box: Box, note: Note | None, held: _Picture | None) -> Size:
    texts = list(_texts(box, note))
    text_width = max(_text_width(text, 15 if kind == "id" else 12) for kind, text in texts)
    width = max(text_width + 2 * _PADDING.width, 84) + (2 * _SLANT if box.kind in ("switch", "approval") else 0)
    height = _LINE_HEIGHT * len(texts) + 2 * _PADDING.height
    if held is not None:
        width, height = max(width, held.size.width + 2 * _FRAME), height + held.size.height + _FRAME - _PADDING.height / 2
    return Size(round(width), height)


def _label_size(link: Link) -> Size | None:
    return None if link.label is None else Size(_text_width(_shortened(link.label, _MOST_LABEL_CHARS), 12) + 12, _LABEL_HEIGHT)


def _box(box: Box, at: Point, size: Size, note: Note | None) -> str:
    top = at.y - size.height / 2
    full = f"{box.id}\n{box.about}" + (f"\nfor each of {box.elements}" if box.elements is not None else "")
    full += f"\nwhen {box.condition}" if box.condition is not None else ""
    full += f"\n{note.text}" if note is not None else ""
    outline = _outline("frame" if box.held is not None and box.kind == "node" else box.kind, at, size)
    lines = [f"<g><title>{_xml_text(full)}</title>{outline}"]
    for number, (kind, text) in enumerate(_texts(box, note)):
        y = top + _PADDING.height + _LINE_HEIGHT * (number + 0.5) + 4.5
        lines.append(f'<text class="{kind}" x="{at.x:.1f}" y="{y:.1f}" text-anchor="middle">{_xml_text(text)}</text>')
    return "".join([*lines, "</g>"])


def _outline(kind: Kind | Literal["frame"], at: Point, size: Size) -> str:
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
    radius = size.height / 2 if kind == "approval" else 7
    return f'<rect class="box {kind}" x="{left:.1f}" y="{top:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="{radius:g}"/>'


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
