"""Which event loop items run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.core.job import Run, Workflow
from batchrun.execution.event_loop import loop_options
from batchrun.nodes.python import PythonNode
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan


def plan_of(placement: str) -> Plan:
    node = PythonNode(id="a", call=abs, inputs={"x": "{{ item.n }}"}, placement=placement)
    return compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=("n",), vars={}, secrets={}, resources={}, run=Run()))


def test_the_fast_loop_is_for_what_waits_and_can_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pays for its import who has no use for it, and whoever suspects it can do without."""
    (tmp_path / "uvloop.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("BATCHRUN_UVLOOP", raising=False)
    assert loop_options(plan_of("loop")) == {"use_uvloop": True}
    assert loop_options(plan_of("thread")) == {"use_uvloop": False}
    monkeypatch.setenv("BATCHRUN_UVLOOP", "0")
    assert loop_options(plan_of("loop")) == {"use_uvloop": False}
