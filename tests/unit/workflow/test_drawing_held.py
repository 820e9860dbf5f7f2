"""Drawings of workflows within workflows."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

from batchrun.core.job import FallbackOnFailure, Workflow
from batchrun.nodes.template import TemplateNode
from batchrun.nodes.workflow import WorkflowNode
from batchrun.workflows.drawing import Note, mermaid, svg

SVG = "{http://www.w3.org/2000/svg}"
DEEP = Workflow(nodes=(TemplateNode(id="tidy", template="x"),))
INNER = Workflow(
    nodes=(
        TemplateNode(id="tidy", template="{{ item.text }}"),
        WorkflowNode(id="deep", inputs={"text": "{{ nodes.tidy.output }}"}, workflow=DEEP),
    )
)
NESTED = Workflow(
    nodes=(
        TemplateNode(id="tidy", template="x"),
        WorkflowNode(id="words", map="{{ item.words }}", workflow=INNER, on_failure=FallbackOnFailure(fallback="once")),
        WorkflowNode(id="once", workflow=Workflow(nodes=(TemplateNode(id="a", template="x"),))),
        TemplateNode(id="words_tidy", template="{{ nodes.words.output }}"),
    )
)
NOTES = {"words.tidy": Note("3 failed", is_bad=True), "words.deep.tidy": Note("3 completed")}


def test_mermaid_holds_the_inner_nodes_in_a_subgraph() -> None:
    """Nodes of the same id are told apart, and a reference within leads to no node outside."""
    assert (
        mermaid(NESTED, NOTES)
        == """\
flowchart TD
    n_tidy["tidy<br/>template"]
    subgraph n_words["words<br/>workflow<br/>for each of item.words"]
        n2_words_tidy["tidy<br/>template<br/>3 failed"]
        subgraph n2_words_deep["deep<br/>workflow"]
            n3_words_deep_tidy["tidy<br/>template<br/>3 completed"]
        end
        n2_words_tidy --> n2_words_deep
    end
    subgraph n_once["once<br/>workflow"]
        n2_once_a["a<br/>template"]
    end
    n_words_tidy["words_tidy<br/>template"]
    n_words --> n_words_tidy
    n_once -.-> n_words_tidy
    n_words -. "on failure" .-> n_once
    classDef fallback stroke-dasharray: 5 3
    class n_once fallback
"""
    )


def test_the_picture_has_the_inner_nodes_within_the_frame_of_their_node() -> None:
    """Nothing sticks out of a frame, and notes are those of the inner nodes."""
    picture = ET.fromstring(svg(NESTED, NOTES))  # noqa: S314 - it is our own
    within = [group for group in picture.iter(f"{SVG}g") if group.get("transform")]
    assert len(within) == 3
    framed = 0
    for group, inner in pairwise(picture):
        if inner.get("transform") is None:
            continue
        framed += 1
        frame = group.find(f"{SVG}rect")
        assert frame is not None
        x, y = map(float, re.findall(r"-?[\d.]+", inner.get("transform", "")))
        left, top = float(frame.get("x", "")), float(frame.get("y", ""))
        right, bottom = left + float(frame.get("width", "")), top + float(frame.get("height", ""))
        lowest_text = max(float(text.get("y", "")) for text in group.iter(f"{SVG}text"))
        for box in inner.iterfind(f"{SVG}g/{SVG}rect"):
            at = (x + float(box.get("x", "")), y + float(box.get("y", "")))
            assert left < at[0] and at[0] + float(box.get("width", "")) < right
            assert lowest_text < at[1] and at[1] + float(box.get("height", "")) < bottom
    assert framed == 2
    assert [text.text for text in picture.iter(f"{SVG}text") if text.get("class") == "note bad"] == ["3 failed"]
