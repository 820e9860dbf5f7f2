"""Templates, compiled once.

A text that is exactly one `{{ expression }}` keeps the type of its value; any other text with `{{ … }}` is rendered to
text. Row content is only ever a value: it is never compiled. Rendering is bounded by fuel, so no template can hang.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import minijinja

from batchrun.core.errors import InvalidValue, UndefinedReference

_FUEL = 1_000_000
_EXACT = re.compile(r"\s*\{\{-?(.*?)-?\}\}\s*", re.DOTALL)
_QUOTED_KEY = re.compile(r"""\[\s*(?:"([A-Za-z_]\w*)"|'([A-Za-z_]\w*)')\s*\]""")

_PLACE = re.compile(r" \(in [^)]*:\d+\)$")

Context = Mapping[str, Any]


class TemplateMistake(Exception):
    """A template that does not compile."""


class _Null:
    """Stands for a null node output inside templates: each field of it is null again, and it renders as nothing."""

    def __getattr__(self, name: str) -> _Null:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> _Null:
        return self

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0

    def __str__(self) -> str:
        return ""


NULL = _Null()


class Template(NamedTuple):
    """A compiled template.

    Attributes:
        render: gives the value for a context.
        names: dotted names it refers to, such as `item.name`; only the start of a name that is not plain.
    """

    render: Callable[[Context], Any]
    names: frozenset[str]


class TemplateEngine:
    """Compiles the templates of one job."""

    def __init__(self) -> None:
        self._environment = minijinja.Environment(
            undefined_behavior="strict",
            auto_escape_callback=lambda _name: False,
            finalizer=lambda value: "" if value is None else value,
            fuel=_FUEL,
        )
        self._count = 0

    def expression(self, source: str) -> Template:
        """Compile one expression; its value keeps its type.

        Raises:
            TemplateMistake: it does not compile.
        """
        names = self._names(f"{{% set value = ({source}) %}}")
        evaluate = self._environment.eval_expr
        return Template(lambda context: _value(_guarded(evaluate, source, context)), names)

    def text(self, source: str) -> Template:
        """Compile a text with templates in it.

        Raises:
            TemplateMistake: it does not compile.
        """
        names = self._names(source)
        self._count += 1
        name = f"template_{self._count}"
        self._environment.add_template(name, source)
        render = self._environment.render_template
        return Template(lambda context: _guarded(render, name, context), names)

    def _names(self, source: str) -> frozenset[str]:
        try:
            self._environment.add_template("probe", source)
            plain_keys = _QUOTED_KEY.sub(lambda match: f".{match[1] or match[2]}", source)
            return frozenset(self._environment.undeclared_variables_in_str(plain_keys, nested=True))
        except minijinja.TemplateError as error:
            raise TemplateMistake(_message(error)) from None


def exact_expression(text: str) -> str | None:
    """The expression of a text that is exactly one `{{ expression }}` and so keeps its type, else None.

    Example:
        >>> exact_expression("{{ item.size }}")
        'item.size'
        >>> exact_expression("{{ item.size }} bytes")
    """
    match = _EXACT.fullmatch(text)
    expression = match[1].strip() if match else ""
    if "}}" in expression or "{{" in expression:
        try:
            minijinja.Environment().add_template("probe", f"{{% set probe = ({expression}) %}}")
        except minijinja.TemplateError:
            return None
    return expression or None


def is_template(text: str) -> bool:
    """Whether a text has a template in it."""
    return "{{" in text or "{%" in text or "{#" in text


def fresh(value: Any) -> Any:
    """A copy whose dicts and lists are new: templates may call methods that change them."""
    if isinstance(value, dict):
        return {key: fresh(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fresh(inner) for inner in value]
    return value


def _value(value: Any) -> Any:
    return None if value is NULL else value


def _guarded(render: Callable[..., Any], source: str, context: Context) -> Any:
    try:
        return render(source, **context)
    except minijinja.TemplateError as error:
        if error.kind == "UndefinedError":
            raise UndefinedReference(_message(error)) from None
        raise InvalidValue(f"template failed: {_message(error)}") from error


def _message(error: minijinja.TemplateError) -> str:
    # The name of the compiled template means nothing to its author; the place in the job file is told elsewhere.
    return _PLACE.sub("", error.message)
