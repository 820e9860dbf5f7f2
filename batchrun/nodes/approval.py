"""The `approval` node: an item goes on when a person says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from batchrun.core.job import NodeOptions
from batchrun.workflows.decisions import settle
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalNode(NodeOptions):
    """Waits for a person.

    The item is parked as `waiting`, and others go on. `batchrun approve` lets it go on with the next resume, with what was
    shown or with what the person has put in its place; after `batchrun reject` the node fails with `Rejected`.
    """

    type: Literal["approval"] = "approval"
    """Waits for a person."""
    output: Any = None
    """A template: what the person is shown, and the node's output unless they give another one. Null: the node's inputs."""

    def question(self) -> Any:
        """What the person is shown, as it is written: for drawings."""
        return self.inputs if self.output is None else self.output

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Compile what is shown."""
        if self.output is None and not compiler.input_names:
            compiler.problem("say what the person is to be shown", "output")
        show = compiler.template(self.output, "output") if self.output is not None else lambda scope: scope.inputs

        def wait(scope: Scope) -> Any:
            if scope.context is None:
                raise AssertionError("an approval has a context")
            return settle(show(scope), scope.context.last_checkpoint)

        return NodeCall(call=wait, wants_context=True, asks_person=True)
