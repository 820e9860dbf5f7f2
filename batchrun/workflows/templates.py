"""Templates, compiled once.

A text that is exactly one `{{ expression }}` keeps the type of its value; any other text with `{{ … }}` is rendered to
text. Row content is only ever a value: it is never compiled. Rendering is bounded by fuel, so no template can hang.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import minijinja

from batchrun.core.errors import InvalidValue, UndefinedReference

_FUEL = 1_000_000
_NEVER_WORKS = {"UnknownFilter", "UnknownTest", "TemplateNotFound"}
_EXACT = re.compile(r"\s*\{\{-?(.*?)-?\}\}\s*", re.DOTALL)
_QUOTED_KEY = re.compile(r"""(?<=[\w\])])\[\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\]""")
_PLACE = re.compile(r" \(in [^)]*:\d+\)$")

Context = Mapping[str, Any]


class TemplateMistake(Exception):
    """A template that does not compile."""


class _Null:
    """Stands for null where a template goes on by an index or a call: what comes of it is null again, and it renders as nothing."""

    def __getattr__(self, name: str) -> _Null:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> _Null:
        return self

    def __call__(self, *_arguments: object, **_named: object) -> _Null:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())  # without it, Python would ask for elements 0, 1, 2, … and never come to an end

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return ""


_NULL = _Null()


class Nulls(NamedTuple):
    """What null is replaced by, so that the fields a template takes from it are null again.

    Attributes:
        value: what takes the place of null: null where the template uses the value itself.
        fields: the same for the fields the template takes from the value.
    """

    value: Any
    fields: dict[str, Nulls]


_LEAF = Nulls(None, {})


class Template(NamedTuple):
    """A compiled template.

    Attributes:
        render: gives the value for a context, which it may change.
        names: names it refers to, such as `("item", "first name")`; only the start of a name that is not plain.
        nulls: what null is replaced by in the context.
    """

    render: Callable[[Context], Any]
    names: frozenset[tuple[str, ...]]
    nulls: Nulls


class TemplateEngine:
    """Compiles the templates of one job."""

    def __init__(self) -> None:
        self._environment = minijinja.Environment(
            undefined_behavior="strict",
            auto_escape_callback=lambda _name: False,
            finalizer=lambda value: "" if value is None else value,
            fuel=_FUEL,
        )
        self._blank = minijinja.Environment(undefined_behavior="chainable", fuel=_FUEL)
        self._count = 0
        self.functions = frozenset(self._environment.globals)
        """Names of the functions of the template language."""

    def expression(self, source: str) -> Template:
        """Compile one expression; its value keeps its type.

        Raises:
            TemplateMistake: it does not compile.
        """
        as_text = self.text(f"{{{{ {source} }}}}")
        evaluate = self._environment.eval_expr

        def value(context: Context) -> Any:
            found = _guarded(evaluate, source, context)
            if found is None:
                as_text.render(context)  # an undefined value is None too, but cannot be rendered
            return _without_stand_ins(found)

        return as_text._replace(render=value)

    def text(self, source: str) -> Template:
        """Compile a text with templates in it.

        Raises:
            TemplateMistake: it does not compile.
        """
        self._count += 1
        name = f"template_{self._count}"
        try:
            self._environment.add_template(name, source)
        except minijinja.TemplateError as error:
            raise TemplateMistake(_message(error)) from None
        self._try(source)
        render = self._environment.render_template
        names = self._names(source)
        return Template(lambda context: _guarded(render, name, context), frozenset(names), _nulls(names))

    def _try(self, source: str) -> None:
        """Render it once without values: filters and tests are only looked up while rendering."""
        try:
            self._blank.render_str(source)
        except minijinja.TemplateError as error:
            if error.kind in _NEVER_WORKS:
                raise TemplateMistake(_message(error)) from None

    def _names(self, source: str) -> dict[tuple[str, ...], bool]:
        """The names a template refers to, and whether it goes on from there by an index or a call."""
        plain, keys = _with_plain_keys(source)
        try:
            found = self._environment.undeclared_variables_in_str(plain, nested=True)
        except minijinja.TemplateError:  # what looked like a key was a list, as in `x in["a"]`
            plain = source
            found = self._environment.undeclared_variables_in_str(source, nested=True)
        names: dict[tuple[str, ...], bool] = {}
        for dotted in found:
            name = tuple(keys.get(part, part) for part in dotted.split("."))
            is_called = len(name) > 1 and _is_followed_by(r"\(", dotted, plain)
            name = name[:-1] if is_called else name
            names[name] = names.get(name, False) or is_called or _is_followed_by(r"\[", dotted, plain)
        return names


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


def fresh(value: Any, nulls: Nulls = _LEAF) -> Any:
    """A copy whose dicts and lists are new: templates may call methods that change them."""
    if value is None:
        return nulls.value
    if isinstance(value, dict):
        return {key: fresh(inner, nulls.fields.get(key, _LEAF)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [fresh(inner) for inner in value]
    return value


def _nulls(paths: Mapping[tuple[str, ...], bool]) -> Nulls:
    heads = sorted({path[0] for path in paths if path})
    fields = {head: _nulls({path[1:]: goes_on for path, goes_on in paths.items() if path[:1] == (head,)}) for head in heads}
    if () in paths:
        return Nulls(_NULL if paths[()] else None, fields)
    return Nulls({head: inner.value for head, inner in fields.items()}, fields)


def _without_stand_ins(value: Any) -> Any:
    if value is _NULL:
        return None
    if isinstance(value, dict):
        return {key: _without_stand_ins(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_stand_ins(inner) for inner in value]
    return value


def _with_plain_keys(source: str) -> tuple[str, dict[str, str]]:
    """Write `item["first name"]` as `item._0`, since only plain names are told; with the key each such name stands for."""
    mark = "_"
    while mark in source:
        mark += "_"
    keys: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        name = f"{mark}{len(keys)}"
        keys[name] = match[1] or match[2] or ""
        return f".{name}"

    return _QUOTED_KEY.sub(plain, source), keys


def _is_followed_by(what: str, name: str, source: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(name)}\s*{what}", source) is not None


def _guarded(render: Callable[..., Any], source: str, context: Context) -> Any:
    try:
        return render(source, **context)
    except minijinja.TemplateError as error:
        if error.kind == "UndefinedError":
            raise UndefinedReference(_message(error)) from None
        raise InvalidValue(f"template failed: {_message(error)}") from error
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:  # of a method the template calls
        raise InvalidValue(f"template failed: {type(error).__name__}: {error}") from error


def _message(error: minijinja.TemplateError) -> str:
    # The name of the compiled template means nothing to its author; the place in the job file is told elsewhere.
    return _PLACE.sub("", error.message)
