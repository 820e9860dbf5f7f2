"""Addresses made from templates: item data may fill them in but never lead them elsewhere.

The text of the job stays as it is written. What a template inserts is percent-encoded, slashes included, so it stays
within its segment. A segment that data turns into nothing, `.` or `..` is refused: it would name another place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import accumulate, chain, takewhile
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

import httpx

from batchrun.core.errors import AddressRefused
from batchrun.net.parts import quoted, text_of
from batchrun.workflows.node import NodeCompiler
from batchrun.workflows.scope import Scope
from batchrun.workflows.templates import TemplateEngine, TemplateMistake, is_template

Address: TypeAlias = Callable[[Scope], str]
"""Gives the address for one item. Raises `NodeError`s only."""

# Quoted text may hold }} without ending the expression.
_EXPRESSION = re.compile(r"""(\{\{(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^"'])*?\}\})""", re.DOTALL)
_WITH_WHOLE_HOST = re.compile(r"[^/?#]+://[^/?#]+[/?#]")
_ELSEWHERE = ("", ".", "..")


def compile_path(text: str, compiler: NodeCompiler, *path: str | int) -> Address | None:
    """Compile a path, query allowed, that is appended to a base address. Null when a problem was reported."""
    parts = _split(text, compiler, path)
    return None if parts is None else _fill(parts, compiler, path)


def compile_url(text: str, compiler: NodeCompiler, *path: str | int) -> Address | None:
    """Compile a complete URL whose scheme and host are literal or come from `vars`. Null when a problem was reported."""
    parts = _split(text, compiler, path)
    if parts is None:
        return None
    head, rest = _with_constants(parts, compiler, path)
    if rest.expressions and not has_whole_host(head):
        compiler.problem(
            "the host must be literal or come from vars, not from item data; "
            "name the service under resources and give resource and path instead",
            *path,
        )
        return None
    problem = address_problem(head)
    if problem:
        compiler.problem(problem, *path)
        return None
    return _fill(rest, compiler, path)


def constant_head(text: str, compiler: NodeCompiler, *path: str | int) -> Head:
    """The beginning of a text that is the same for all items, and whether that is all of it."""
    pieces = _EXPRESSION.split(text)
    head, rest = _with_constants(_Parts(pieces[0::2], pieces[1::2]), compiler, path)
    return Head(head, not (rest.expressions or any(map(is_template, rest.literals))))


def has_whole_host(head: str) -> bool:
    """Whether the beginning of an address goes beyond its host."""
    return _WITH_WHOLE_HOST.match(head) is not None


def address_problem(address: str) -> str | None:
    """What is wrong with a complete address, else null."""
    try:
        url = httpx.URL(address)
        host = url.host
    except (httpx.InvalidURL, UnicodeError) as error:  # a host such as xn--a- is no name in any language
        return f"is not an address: {error}"
    if url.scheme not in ("http", "https") or not host:
        return f"must be http://host… or https://host…, got {address!r}"
    if url.userinfo:
        return "must not hold a user or password; send them in an Authorization header"
    return None


def base_problem(base_url: str) -> str | None:
    """What is wrong with the address of a service that paths are appended to, else null."""
    if not base_url:
        return "is missing; give it, such as base_url: https://api.example.com: only python nodes can do without one"
    return address_problem(base_url)


class _Parts(NamedTuple):
    """An address cut at its expressions; there is one literal more than there are expressions."""

    literals: list[str]
    expressions: list[str]


class Head(NamedTuple):
    """The beginning of a text that is the same for all items.

    Attributes:
        text: the beginning.
        is_all: whether nothing comes after it.
    """

    text: str
    is_all: bool


def _with_constants(parts: _Parts, compiler: NodeCompiler, path: Sequence[str | int]) -> tuple[str, _Parts]:
    """The beginning with its constants filled in, and all parts with that as the first literal."""
    constants = len(list(takewhile(_is_constant, parts.expressions)))
    head_parts = chain.from_iterable(zip(parts.literals, [*parts.expressions[:constants], ""], strict=False))
    head = compiler.constant("".join(head_parts), *path)
    return head, _Parts([head, *parts.literals[constants + 1 :]], parts.expressions[constants:])


def _split(text: str, compiler: NodeCompiler, path: Sequence[str | int]) -> _Parts | None:
    pieces = _EXPRESSION.split(text)
    literals, expressions = pieces[0::2], pieces[1::2]
    if any(map(is_template, literals)):
        compiler.problem("may hold {{ expressions }} only; a condition is written {{ a if b else c }}", *path)
        return None
    if any("#" in literal for literal in literals):
        compiler.problem("must not have a #fragment, which is never sent; write %23 for the character itself", *path)
        return None
    return _Parts(literals, expressions)


def _is_constant(expression: str) -> bool:
    try:
        names = TemplateEngine().text(expression).names
    except TemplateMistake:
        return False
    return all(name[0] == "vars" for name in names)


def _fill(parts: _Parts, compiler: NodeCompiler, path: Sequence[str | int]) -> Address:
    literals, expressions = parts
    renders = [compiler.template(expression, *path) for expression in expressions]
    if not renders:
        return lambda _scope: literals[0]
    # Values never bring a slash or a question mark of their own, so the segments they land in are known.
    filled_segments = {before.count("/") for before in accumulate(literals[:-1]) if "?" not in before}

    is_plain = "%" not in "".join(literals)  # else a value may complete what stands for a dot

    def address(scope: Scope) -> str:
        values = [quoted(text_of(render(scope), name)) for render, name in zip(renders, expressions, strict=True)]
        filled = "".join(chain.from_iterable(zip(literals, [*values, ""], strict=True)))
        if is_plain and all(map(str.isalnum, values)):  # so none of them is empty or a dot
            return filled
        segments = filled.partition("?")[0].split("/")
        for number in filled_segments:
            if unquote(segments[number]) in _ELSEWHERE:
                raise AddressRefused(
                    f"item data makes a part of the address {filled!r} empty, '.' or '..', which would name another place; "
                    f"it comes from {', '.join(expressions)}"
                )
        return filled

    return address
