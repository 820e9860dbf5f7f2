"""The `switch` node: choose which node comes next."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from batchrun.core.job import NodeOptions
from batchrun.workflows.encoding import encode
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchNode(NodeOptions):
    """Chooses the next node by a value.

    Its output is the id of the node it has chosen; the others it could have chosen are skipped.
    """

    type: Literal["switch"] = "switch"
    """Chooses the next node by a value."""
    on: Any
    """A template; its value, as text, is looked up in `cases`: true, 3 and null are found under these words."""
    cases: dict[str, str] = field(default_factory=dict)
    """The id of the node to run, by value."""
    default: str | None = None
    """The id of the node to run for any other value; null: none."""

    def branches(self) -> list[tuple[str, str]]:
        """The nodes it chooses from, each with the words for when it does: for drawings."""
        default = [] if self.default is None else [(self.default, "otherwise")]
        return [(id, value or '""') for value, id in self.cases.items()] + default

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Compile the value, and name the nodes."""
        for value, id in self.cases.items():
            compiler.branch(id, "cases", value)
        if self.default is not None:
            compiler.branch(self.default, "default")
        if not self.cases:
            compiler.problem("must have at least one case", "cases")
        value_of, cases, default = compiler.template(self.on, "on"), self.cases, self.default

        def choose(scope: Scope) -> str | None:
            return cases.get(_text(value_of(scope)), default)

        return NodeCall(call=choose, returns=str)


def _text(value: Any) -> str:
    """A value as the text that it is in the result: dates, decimals and enums are what they are written as."""
    if isinstance(value, str):
        return value
    written = encode(value).decode()
    return str(json.loads(written)) if written.startswith('"') else written
