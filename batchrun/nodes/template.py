"""The `template` node: text, or any JSON-like value, from a template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from batchrun.core.job import NodeOptions
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.templates import exact_expression


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateNode(NodeOptions):
    """Fills a template."""

    type: Literal["template"] = "template"
    """Fills a template."""
    template: Any
    """Text with `{{ … }}`, or a list or mapping whose texts are templates."""

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Compile the template."""
        is_text = isinstance(self.template, str) and exact_expression(self.template) is None
        return NodeCall(call=compiler.template(self.template, "template"), returns=str if is_text else None)
