"""Python workflows and sub-workflows: what an item costs in them, beside the same three nodes declared in a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import batchrun
from batchrun import Workflow
from batchrun.nodes.workflow import WorkflowNode
from benchmarks.functions import clean, clean_later, label, label_later, score, score_later
from benchmarks.jobs import chain, job_of, measured, tickets
from benchmarks.model import Case, Variant

_clean, _score, _label = batchrun.node(clean), batchrun.node(score), batchrun.node(label)
_clean_later, _score_later, _label_later = batchrun.node(clean_later), batchrun.node(score_later), batchrun.node(label_later)


@batchrun.workflow
def plain(item: dict[str, Any]) -> dict[str, Any]:
    """The three nodes in a plain function."""
    cleaned = _clean(item["body"])
    return _label(_score(cleaned["text"], cleaned["length"])["score"])


@batchrun.workflow
async def later(item: dict[str, Any]) -> dict[str, Any]:
    """The three nodes in an async function."""
    cleaned = await _clean_later(item["body"])
    scored = await _score_later(cleaned["text"], cleaned["length"])
    labelled: dict[str, Any] = await _label_later(scored["score"])
    return labelled


_FUNCTIONS = {"plain": (clean, score, label), "async": (clean_later, score_later, label_later)}
_IN_PYTHON = {"plain": plain, "async": later}


def job(dataset: str, items: int, folder: str, kind: str, form: str) -> Any:
    """The job, in one of its forms."""
    declared = chain(*_FUNCTIONS[kind])
    workflow: Any = {
        "declared": declared,
        "in Python": _IN_PYTHON[kind],
        "sub-workflow": Workflow(nodes=(WorkflowNode(id="held", inputs={"body": "{{ item.body }}"}, workflow=declared),)),
    }[form]
    return measured(lambda source: job_of(workflow, source, Path(folder)), dataset, items, folder)


def _case(kind: str) -> Case:
    return Case(
        group="workflows",
        name=f"workflows, {kind}",
        about=f"three {kind} nodes that do next to nothing: declared in the job, in a Python workflow, in a `workflow` node",
        baseline="declared",
        variants=tuple(
            Variant(name=form, call="benchmarks.cases.workflows:job", arguments={"kind": kind, "form": form})
            for form in ("declared", "in Python", "sub-workflow")
        ),
        files=tickets,
        items=100_000,
        quick_items=1_000,
    )


CASES = (_case("plain"), _case("async"))
