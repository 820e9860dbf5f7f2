"""The `approval` node, and what a decision means to it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import Run, Workflow
from batchrun.nodes.approval import ApprovalNode
from batchrun.nodes.template import TemplateNode
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.decisions import Decision, NeedsDecision, Rejected, decision_of, digest, settle
from batchrun.workflows.drawing import mermaid, svg

SHOWN = {"draft": "Dear Ada"}
ABOUT = digest(orjson.dumps(SHOWN))


def fields(**fields: Any) -> dict[str, Any]:
    """A decision about what is shown here, as the journal gives it back."""
    return {**Decision(is_approved=True, about=ABOUT)._asdict(), **fields}


@pytest.mark.parametrize(
    ("decision", "output"),
    [
        (fields(), SHOWN),
        (fields(has_output=True, output="another"), "another"),
        (fields(has_output=True, output=None), None),
        (fields(output="not given"), SHOWN),
    ],
)
def test_who_approves_gives_the_output_or_takes_what_was_shown(decision: dict[str, Any], output: Any) -> None:
    """Null is an output like any other: it must not be taken for none."""
    assert settle(SHOWN, decision) == output


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (fields(is_approved=False), "rejected"),
        (fields(is_approved=False, by="Ada"), "rejected by Ada"),
        (fields(is_approved=False, by="Ada", reason="too long"), "rejected by Ada: too long"),
    ],
)
def test_who_rejects_makes_the_node_fail_in_his_words(decision: dict[str, Any], message: str) -> None:
    """The error of the item says who said no, and why."""
    with pytest.raises(Rejected, match=f"^{message}$"):
        settle(SHOWN, decision)


@pytest.mark.parametrize(
    "checkpoint",
    [
        None,
        "yes",
        [],
        {},
        {"is_approved": True},
        fields(is_approved="yes"),
        fields(reason=3),
        fields(extra=1),
        fields(about=""),
        fields(about=digest(b'"another draft"')),
    ],
)
def test_what_is_no_decision_about_this_is_asked_again(checkpoint: Any) -> None:
    """An approval of one text must never let another one pass, nor may something else that was left be taken for one."""
    with pytest.raises(NeedsDecision) as waiting:
        settle(SHOWN, checkpoint)
    assert waiting.value.shown == SHOWN


def test_a_decision_comes_back_from_its_fields() -> None:
    """What is written down is what was decided."""
    decision = Decision(is_approved=False, reason="no", by="Ada", about=ABOUT)
    assert decision_of(orjson.loads(orjson.dumps(decision._asdict()))) == decision


@pytest.mark.parametrize(
    ("options", "run", "problem"),
    [
        ({}, Run(), "output: say what the person is to be shown"),
        ({"output": "{{ item.y }}"}, Run(), 'unknown column "y"'),
        ({"output": "x"}, Run(durable=False), "type: a node of type approval waits for a person, whose decision is kept in the journal"),
        ({"output": "x", "cache": True}, Run(), "cache: "),
        ({"output": "x", "dedupe": True}, Run(), "dedupe: "),
    ],
)
def test_mistakes_are_found_before_the_first_item(options: dict[str, Any], run: Run, problem: str) -> None:
    """Without a journal, a decision could never be kept; nobody should find that out from a thousand parked items."""
    with pytest.raises(JobError) as refused:
        compile_workflow(Workflow(nodes=(ApprovalNode(id="ok", **options),)), Surroundings(columns=("x",), run=run))
    assert problem in str(refused.value)


def test_drawings_tell_it_from_other_nodes() -> None:
    """Where people have a say is the first thing to look for in a drawing."""
    nodes = (TemplateNode(id="draft", template="x"), ApprovalNode(id="ok", output="{{ nodes.draft.output }}", label="Check it"))
    workflow = Workflow(nodes=nodes)
    assert '    n_ok(["ok<br/>approval · Check it"])\n' in mermaid(workflow)
    assert 'class="box approval"' in svg(workflow)
