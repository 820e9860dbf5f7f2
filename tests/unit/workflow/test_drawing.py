"""Drawings of workflows."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.job import FallbackOnFailure, NodeOptions, Workflow
from batchrun.nodes.python import PythonNode
from batchrun.nodes.switch import SwitchNode
from batchrun.nodes.template import TemplateNode
from batchrun.workflows.drawing import draw, mermaid, svg
from batchrun.workflows.sketch import sketch
from tests.unit.engine.any_ways import Ways, any_ways
from tests.unit.workflow.probe import compiled, probe

SVG = "{http://www.w3.org/2000/svg}"
TRIAGE = Workflow(
    nodes=(
        PythonNode(id="clean", call="nowhere:clean", inputs={"text": "{{ item.body }}"}),
        TemplateNode(id="ask", label="large", template="{{ nodes.clean.output.text }}?", on_failure=FallbackOnFailure(fallback="guess")),
        TemplateNode(id="guess", template="{{ nodes.clean.output }}"),
        SwitchNode(id="pick", on="{{ nodes.ask.output }}", cases={"refund": "pay", "pay": "pay"}, default="end"),
        TemplateNode(id="pay", template="x", needs=("clean",), when="{{ item.priority <= 2 }}"),
        TemplateNode(id="end", template="x"),
    )
)


def test_mermaid_shows_all_that_decides_about_a_node() -> None:
    """References and needs, cases with their values, fallbacks and what they stand in for, and conditions."""
    assert mermaid(TRIAGE) == draw(TRIAGE, "mermaid")
    assert mermaid(TRIAGE) == (
        """\
flowchart TD
    n_clean["clean<br/>python"]
    n_ask["ask<br/>template · large"]
    n_guess["guess<br/>template"]
    n_pick{{"pick<br/>switch"}}
    n_pay["pay<br/>template<br/>when item.priority #60;= 2"]
    n_end["end<br/>template"]
    n_clean --> n_ask
    n_clean --> n_guess
    n_ask --> n_pick
    n_clean --> n_pay
    n_guess -.-> n_pick
    n_pick -. "refund, pay" .-> n_pay
    n_pick -. "otherwise" .-> n_end
    n_ask -. "on failure" .-> n_guess
    classDef fallback stroke-dasharray: 5 3
    class n_guess fallback
"""
    )


def parsed(workflow: Workflow) -> ET.Element:
    return ET.fromstring(svg(workflow))  # noqa: S314 - written by us


def test_svg_shows_the_same() -> None:
    """Every box, every line and every label is there once, in its own colour; what is cut short is there in full on hover."""
    assert svg(TRIAGE) == draw(TRIAGE, "svg") == svg(TRIAGE)
    root = parsed(TRIAGE)
    texts = [(each.get("class"), each.text) for each in root.iter(f"{SVG}text")]
    assert sorted(text for kind, text in texts if kind == "id") == ["ask", "clean", "end", "guess", "pay", "pick"]
    assert ("when", "when item.priority <= 2") in texts
    assert ("about", "template · large") in texts
    assert sorted(text for kind, text in texts if kind == "label case") == ["otherwise", "refund, pay"]
    assert [text for kind, text in texts if kind == "label failure"] == ["on failure"]
    lines = sorted(str(each.get("class")) for each in root.iter(f"{SVG}path") if str(each.get("class")).startswith("line"))
    assert lines == ["line"] * 4 + ["line case"] * 2 + ["line failure"] * 2
    boxes = [each.get("class") for each in root.iter() if str(each.get("class")).startswith("box")]
    assert sorted(map(str, boxes)) == ["box fallback", *["box node"] * 4, "box switch"]
    long = Workflow(
        nodes=(TemplateNode(id="x" * 90, template="x", when="{{ item.a == 1 and item.b == 2 and item.c == 3 and item.d == 4 }}"),)
    )
    (title,) = parsed(long).iter(f"{SVG}title")
    assert title.text == f"{'x' * 90}\ntemplate\nwhen item.a == 1 and item.b == 2 and item.c == 3 and item.d == 4"
    assert max(len(each.text or "") for each in parsed(long).iter(f"{SVG}text")) == 40


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_text_is_never_taken_for_markup(label: str, case: str, condition: str) -> None:
    """Whatever is in a job file: a drawing of it is well-formed, runs nothing, loads nothing, and shows it as text."""
    switch = SwitchNode(id="s", label=label, on="x", cases={case: "a"}, when=f"{{{{ {condition} }}}}")
    workflow = Workflow(nodes=(switch, TemplateNode(id="a", template="x")))
    root = parsed(workflow)
    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {"svg", "style", "rect", "g", "title", "text", "path", "polygon"}
    assert {name for each in root.iter() for name in each.keys()} <= {  # noqa: SIM118 - an element is no mapping
        *("class", "width", "height", "viewBox", "role", "aria-label", "x", "y", "rx", "fill", "d", "points", "text-anchor")
    }
    assert [each.text for each in root.iter(f"{SVG}style")] == [each.text for each in parsed(TRIAGE).iter(f"{SVG}style")]
    lines = mermaid(workflow).splitlines()
    assert len(lines) == 4
    inner = [re.fullmatch(r""" *n_s(?:\{\{"(.*)"\}\}|(?: -\. "(.*)" \.-> n_a))""", lines[number]) for number in (1, 3)]
    for text in [found[1] or found[2] for found in inner if found is not None]:
        assert not set(re.sub(r"#\d+;|<br/>", "", text)) & set("\"'`<>&#;{}[]|%\\")
    assert None not in inner


@pytest.mark.parametrize("case", ["<script>alert(1)</script>", "a & b", 'say "hi"', "日本語", "cafe\u0301", "-->", "%%{init}%%", ""])
def test_cases_are_shown_as_they_are_written(case: str) -> None:
    """The reader finds the value of the job file, also an odd one."""
    workflow = Workflow(nodes=(SwitchNode(id="s", on="x", cases={case: "a"}), TemplateNode(id="a", template="x")))
    assert (case or '""') in [each.text for each in parsed(workflow).iter(f"{SVG}text")]


def drawable(ways: Ways) -> list[NodeOptions]:
    """The nodes of a graph; every other one only needs what the rest read."""
    nodes: list[NodeOptions] = []
    for position, needs in enumerate(ways.needs):
        on_failure = ways.on_failure(position, "stop")
        if position in ways.cases:
            nodes.append(ways.switch(position, on_failure=on_failure))
        elif position % 2:
            nodes.append(probe(f"n{position}", *(f"n{need}" for need in needs), on_failure=on_failure))
        else:
            text = [f"{{{{ nodes.n{need}.output.x }}}} and {{{{ item.name }}}}" for need in needs]
            nodes.append(probe(f"n{position}", text=text, on_failure=on_failure))
    return nodes


@given(any_ways())
@settings(deadline=None)
def test_lines_are_those_of_the_plan(ways: Ways) -> None:
    """A drawing is made without compiling anything, and still shows what the engine goes by."""
    nodes = drawable(ways)
    plan, drawn = compiled(*nodes, columns=("n", "name")), sketch(Workflow(nodes=tuple(nodes)))
    by_bit = {step.bit: step.id for step in plan.steps}

    def ids(bits: int) -> set[str]:
        return {id for bit, id in by_bit.items() if bits & bit}

    for step in plan.steps:
        into = {kind: {link.source for link in drawn.links if (link.target, link.kind) == (step.id, kind)} for kind in KINDS}
        assert into["reads"] == ids(step.sources)
        assert into["case"] == {plan.steps[position].id for position in step.chosen_by}
        assert into["on failure"] == ids(step.fallback_for)
        assert set().union(*into.values()) == ids(step.upstream)
    assert [box.id for box in drawn.boxes] == [node.id for node in nodes]


KINDS = ("reads", "case", "on failure", "in its place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Router(NodeOptions):
    """A node type of another package that chooses nodes."""

    type: str = "router"

    def branches(self) -> list[tuple[str, str]]:
        return [("a", "by day"), ("b", "by night")]


def test_any_node_type_can_say_what_it_chooses() -> None:
    """Switches of other packages are drawn like the one that is built in."""
    drawn = mermaid(Workflow(nodes=(Router(id="r"), probe("a"), probe("b"))))
    assert 'n_r{{"r<br/>router"}}' in drawn
    assert 'n_r -. "by night" .-> n_b' in drawn


def test_the_command_prints_the_drawing_and_nothing_else(tmp_path: Path) -> None:
    """`batchrun plan JOB --graph svg > workflow.svg` gives a picture; a job with a mistake gives none."""
    (tmp_path / "rows.csv").write_text("name\nAnn\n")
    (tmp_path / "job.yaml").write_text(
        'dataset: {path: rows.csv}\nworkflow: {nodes: [{id: hello, type: template, template: "Hi {{ item.name }}"}]}\n'
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "batchrun", "plan", "job.yaml", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    drawn = run("--graph", "mermaid")
    assert (drawn.returncode, drawn.stdout) == (0, 'flowchart TD\n    n_hello["hello<br/>template"]\n')
    picture = run("--graph", "svg")
    assert ET.fromstring(picture.stdout).tag == f"{SVG}svg"  # noqa: S314 - written by us
    wrong = run("--graph", "svg", "--set", "workflow.nodes.hello.needs=[gone]")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert 'unknown node "gone"' in wrong.stderr
    assert run("--graph", "png").returncode == 2
