"""Fingerprints: which changes of a workflow cost the work that was done, and how they are told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from batchrun.core.job import DefaultOnFailure, NodeOptions
from batchrun.core.policies import Retry
from batchrun.workflows.fingerprint import described, differences, edited_nodes, references_in
from batchrun.workflows.node import NodeCall, NodeCompiler
from tests.unit.workflow.probe import ProbeNode, compiled, probe

NODE = probe("a", inputs={"x": 1, "model": "{{ vars.model.name }}"}, when="{{ item.size }}")


def fingerprints(node: NodeOptions, **surroundings: Any) -> tuple[str, str]:
    (found,) = compiled(node, **surroundings).node_fingerprints.values()
    return found


@pytest.mark.parametrize(
    ("node", "same"),
    [
        (replace(NODE, label="other", retry=Retry(), timeout_seconds=3), (True, True)),
        (replace(NODE, id="b"), (True, True)),
        (replace(NODE, inputs={"model": "{{ vars.model.name }}", "x": 1}), (True, True)),
        (replace(NODE, on_failure="stop", needs=()), (True, True)),
        (replace(NODE, inputs={"x": 2}), (False, True)),
        (replace(NODE, inputs={"x": 1.5}), (False, True)),
        (replace(NODE, when="{{ item.name }}"), (False, True)),
        (replace(NODE, on_failure="continue"), (False, True)),
        (replace(NODE, on_failure=DefaultOnFailure(default=1)), (False, True)),
        (replace(NODE, text="other"), (False, True)),
        (replace(NODE, identity="other source"), (False, False)),  # which is a key of this node type as well
    ],
    ids=[
        "policies",
        "id",
        "key order",
        "spelled-out defaults",
        "inputs",
        "float",
        "condition",
        "on_failure",
        "default",
        "own key",
        "source",
    ],
)
def test_a_node_is_what_it_means(node: NodeOptions, same: tuple[bool, bool]) -> None:
    """Results may be gone on with after a change of patience or of names, not after a change of work."""
    options, code = fingerprints(NODE)
    found = fingerprints(node)
    assert (found[0] == options, found[1] == code) == same


def test_nodes_of_another_type_are_other_nodes() -> None:
    """Two types with the same keys do different work."""
    assert fingerprints(replace(NODE, type="other")) != fingerprints(NODE)


def test_needed_nodes_count() -> None:
    """What a node waits for decides whether it is skipped."""
    first, second = (compiled(probe("a"), probe("b", *needs)).node_fingerprints["b"] for needs in ((), ("a",)))
    assert first != second


@pytest.mark.parametrize(
    ("text", "vars", "same"),
    [
        ("{{ vars.n }}", {"n": 2}, False),
        ("{{ vars.n }}", {"n": 1, "other": 2}, True),
        ("{{ vars.n + 1 }}", {"n": 2}, False),
        ("at {{ vars['n'] }}", {"n": 2}, False),
        (["{{ vars.n }}"], {"n": 2}, False),
        ("{{ vars }}", {"n": 1, "other": 2}, False),
        ("vars.n", {"n": 2}, True),
        ("{{ item.size }}", {"n": 2}, True),
        ({"a": {"b": "{% if vars.n %}x{% endif %}"}}, {"n": 2}, False),
    ],
)
def test_variables_count_where_they_are_used(text: Any, vars: dict[str, Any], *, same: bool) -> None:  # noqa: A002
    """A new model for one node must not cost the work of the others."""
    assert (fingerprints(probe("a", text=text), vars=vars) == fingerprints(probe("a", text=text), vars={"n": 1})) is same
    plans = [compiled(probe("a"), output=text, vars=each) for each in ({"n": 1}, vars)]
    assert (plans[0].output_fingerprint == plans[1].output_fingerprint) is same
    assert (plans[0].fingerprint == plans[1].fingerprint) is same


@pytest.mark.parametrize(
    ("node", "same"),
    [
        (probe("a", inputs={"x": "{{ input }}"}), False),
        (probe("a", text="size: {{ input }}"), False),
        (probe("a", default_inputs={"x": "{{ input }}"}), False),
        (probe("a", inputs={"x": "{{ item.name }}"}), True),
        (probe("a", text="{{ item.tags }}"), True),
    ],
    ids=["inputs", "text", "of its type", "item", "other column"],
)
def test_the_input_field_counts_where_it_is_used(node: ProbeNode, *, same: bool) -> None:
    """`{{ input }}` is another value when it is another column."""
    assert (fingerprints(node, input_field="name") == fingerprints(node, input_field="size")) is same


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Options inside of options."""

    path: str = "/"
    query: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nested(NodeOptions):
    """A node type whose options have parts."""

    type: str = "nested"
    parts: Parts = Parts()
    odd: Any = None

    def bind(self, compiler: NodeCompiler) -> NodeCall:
        return NodeCall(call=compiler.template(self.parts.query, "parts"))


def test_options_inside_of_options_count() -> None:
    """A request is as much part of a node as its inputs, with the variables in it."""
    node = Nested(id="a", parts=Parts(query={"q": "{{ vars.n }}"}))
    found = [
        fingerprints(node, vars={"n": 1}),
        fingerprints(node, vars={"n": 2}),
        fingerprints(replace(node, parts=Parts()), vars={"n": 1}),
    ]
    assert len(set(found)) == 3
    assert fingerprints(replace(node, parts=Parts(query=node.parts.query, path="/")), vars={"n": 1}) == found[0]


def test_options_of_any_type_have_a_fingerprint() -> None:
    """Jobs made in Python may hold sets and objects, which are the same in every process."""
    odd = [{"b", "a", 1}, object(), "{{ not a template", "{{ item.nmae }}", Parts, b"x", float("nan")]
    found = [fingerprints(Nested(id="a", odd=each)) for each in odd]
    assert len(set(found)) == len(odd)
    assert found == [fingerprints(Nested(id="a", odd=each)) for each in [{1, "a", "b"}, object(), *odd[2:]]]


def test_the_fingerprint_is_that_of_nodes_output_and_schema() -> None:
    """The same nodes with another output give other results; their order in the file gives the same."""
    a, b = probe("a"), probe("b", "a")
    changes: list[dict[str, Any]] = [{}, {"output": "x"}, {"output_schema": "string"}, {"output": {"x": 1}}]
    assert len({compiled(a, b, **change).fingerprint for change in changes}) == 4
    assert compiled(b, a).fingerprint == compiled(a, b).fingerprint != compiled(a, probe("c", "a")).fingerprint


def test_differences_name_what_changed() -> None:
    """A refused resume says what is different, node by node; an equal workflow has none, after a way through JSON as well."""
    clean, old = probe("clean"), probe("old", text="{{ nodes.clean.output }}")
    classify = probe("classify", "clean", identity="def f(): 1", text="{{ vars.model }}")
    before = json.loads(json.dumps(described(compiled(clean, classify, old, output="x"))))
    assert differences(before, compiled(old, classify, clean, output="x")) == []
    assert edited_nodes(before, compiled(old, classify, clean, output="x")) == frozenset()

    now = compiled(clean, replace(classify, identity="def f(): 2"), probe("summary"), output="y", vars={"model": "other"})
    assert differences(before, now) == [
        ("classify", "node classify: its options changed"),
        ("classify", "node classify: its function or what it calls changed"),
        ("summary", "node summary was added"),
        ("old", "node old was removed"),
        (None, "the output changed"),
    ]
    assert edited_nodes(before, now) == {"classify", "summary"}


def test_references_are_those_of_all_templates() -> None:
    """References are found in plain and in composed templates, at any depth, and not in what only looks like one."""
    value = {
        "a": ["{{ nodes.clean.output['x y'][0] }}", "{{ item.a + vars.größe }}"],
        "b": Parts(path="{{ inputs.x }}"),
        "c": "{{ 1 +",
        "d": 3,
    }
    assert references_in(value) == {("nodes", "clean", "output", "x y", 0), ("item", "a"), ("vars", "größe"), ("inputs", "x")}
