"""What the nodes of other libraries' workflows have in common."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from batchrun.core.job import NodeOptions, Workflow
from batchrun.nodes.outside import Pauses, found
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.plan import Plan


class Meeting:
    """A compiler at which a thread waits for a second one, if one comes."""

    def __init__(self, compiler: NodeCompiler) -> None:
        self.compiler = compiler
        self.threads: set[int] = set()
        self.both_are_here = threading.Event()

    def part(self, workflow: Workflow, columns: Sequence[str]) -> Plan:
        self.threads.add(threading.get_ident())
        if len(self.threads) > 1:
            self.both_are_here.set()
        self.both_are_here.wait(0.2)
        return self.compiler.part(workflow, columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundNode(NodeOptions):
    """Hands out what it was bound with."""

    type: Literal["bound"] = "bound"
    compilers: list[NodeCompiler]

    def bind(self, compiler: NodeCompiler) -> NodeCall:
        self.compilers.append(compiler)
        return NodeCall(call=lambda _scope: None)


def test_what_a_module_misses_is_not_the_module_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told that a module is not there looks for it, and not for what is to be installed."""
    told: list[str] = []
    (tmp_path / "not_installed_flows.py").write_text("import not_installed")
    monkeypatch.syspath_prepend(tmp_path)
    compiler: Any = SimpleNamespace(problem=lambda message, *_path: told.append(message))
    assert found("not_installed_flows:FLOW", compiler, "flow") is None
    assert found("not_there:FLOW", compiler, "flow") is None
    assert told[0] == "importing it failed: ModuleNotFoundError: No module named 'not_installed'"
    assert told[1].startswith("there is no module 'not_there'")


def test_a_question_that_lanes_come_to_at_once_has_one_plan() -> None:
    """Each plan has an engine of its own, with threads, and lives as long as the execution."""
    node = BoundNode(id="asks", compilers=[])
    compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=()))
    met: Any = Meeting(node.compilers[0])
    pauses, start = Pauses(met), threading.Barrier(2)

    def plan() -> Plan:
        start.wait(10)
        return pauses.of("release")

    with ThreadPoolExecutor(2) as threads:
        first, second = (each.result() for each in [threads.submit(plan), threads.submit(plan)])
    assert first is second
    assert len(met.threads) == 1
