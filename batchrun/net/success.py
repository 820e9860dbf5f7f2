"""What the job calls a success: a condition on what a service answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from batchrun.core.errors import UndefinedReference
from batchrun.workflows.templates import TemplateEngine, TemplateMistake, exact_expression, fresh

_NAMES = ("response", "status")

Success: TypeAlias = Callable[[Any, int], bool]
"""Whether an answer, as it was read, with its status, is a success. What the answer does not have is none."""


def success_of(text: str, report: Callable[[str], None]) -> Success | None:
    """Compile a condition such as `{{ response.status == "ok" }}`. Null when mistakes were reported."""
    expression, engine = exact_expression(text), TemplateEngine()
    if expression is None:
        report(f"must be one {{{{ expression }}}}, got {text!r}")
        return None
    try:
        template = engine.expression(expression)
    except TemplateMistake as mistake:
        report(str(mistake))
        return None
    unknown = sorted({name[0] for name in template.names} - {*_NAMES} - engine.functions)
    if unknown:
        report(f"{' and '.join(unknown)} cannot be used here: refer to response and status")
        return None

    def is_success(response: Any, status: int) -> bool:
        try:
            return bool(template.render(fresh({"response": response, "status": status}, template.nulls)))
        except UndefinedReference:
            return False

    return is_success
