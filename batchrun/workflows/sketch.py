"""What a drawing of a workflow shows: its nodes, and why one comes before another.

It is made from the workflow as it is written: neither its dataset nor its functions are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from batchrun.core.job import FallbackOnFailure, NodeOptions, Workflow
from batchrun.workflows.fingerprint import references_in
from batchrun.workflows.templates import exact_expression

Kind: TypeAlias = Literal["node", "switch", "approval", "fallback"]
LinkKind: TypeAlias = Literal["reads", "case", "on failure", "in its place"]

_NOT_READ = {"id", "label", "needs", "on_failure"}  # keys in which nothing is a template


@runtime_checkable
class Choosing(Protocol):
    """Options of a node type that chooses other nodes and can say by what."""

    def branches(self) -> Iterable[tuple[str, str]]:
        """The ids of the nodes, each with the words for when it is chosen."""


@runtime_checkable
class Asking(Protocol):
    """Options of a node type that waits for a person."""

    def question(self) -> Any:
        """What the person is shown, as it is written."""


@runtime_checkable
class Holding(Protocol):
    """Options of a node type that runs another workflow."""

    def held(self) -> tuple[Workflow, Any]:
        """The workflow, and the list for whose elements it is run, as it is written; null: it is run once."""


class Box(NamedTuple):
    """A node in a drawing.

    Attributes:
        about: its type, and its label.
        condition: what must be true for it to run; null: it has no `when`.
        held: the workflow that it runs; null: it is no such node.
        elements: the list for whose elements it does so; null: it does so once.
    """

    id: str
    kind: Kind
    about: str
    condition: str | None
    held: Workflow | None = None
    elements: str | None = None


class Link(NamedTuple):
    """A line in a drawing.

    Attributes:
        kind: `in its place`: from a fallback to what reads the node that it runs for.
    """

    source: str
    target: str
    kind: LinkKind
    label: str | None = None


class Sketch(NamedTuple):
    """What is to be drawn."""

    boxes: tuple[Box, ...]
    links: tuple[Link, ...]


def sketch(workflow: Workflow) -> Sketch:
    """Sketch a workflow that can be compiled."""
    nodes = {options.id: options for options in workflow.nodes}
    fallbacks = {id: each.on_failure.fallback for id, each in nodes.items() if isinstance(each.on_failure, FallbackOnFailure)}
    links: dict[tuple[str, str], Link] = {}
    cases: dict[tuple[str, str], Link] = {}
    for id, options in nodes.items():
        for source in _sources(options, nodes):
            links[source, id] = Link(source, id, "reads")
        for chosen, words in options.branches() if isinstance(options, Choosing) else ():
            before = cases.get((id, chosen))
            cases[id, chosen] = Link(id, chosen, "case", words if before is None else f"{before.label}, {words}")
    for source, target in [*links, *cases]:
        chain = list(_along(source, fallbacks))
        for fallback in chain if target not in chain else []:
            links.setdefault((fallback, target), Link(fallback, target, "in its place"))
    failures = [Link(id, fallback, "on failure", "on failure") for id, fallback in fallbacks.items()]
    boxes = tuple(_box(options, is_fallback=id in fallbacks.values()) for id, options in nodes.items())
    return Sketch(boxes, (*links.values(), *cases.values(), *failures))


def _sources(options: NodeOptions, nodes: Mapping[str, NodeOptions]) -> list[str]:
    """The nodes that a node reads or needs, in the order of the job."""
    held = options.held()[0] if isinstance(options, Holding) else None  # whose nodes are others, even those with the same ids
    values = [getattr(options, each.name) for each in fields(options) if each.name not in _NOT_READ]
    read = references_in([value for value in values if value is None or value is not held])
    found = {str(reference[1]) for reference in read if reference[0] == "nodes" and len(reference) > 1} | set(options.needs)
    return [id for id in nodes if id in found]


def _along(id: str, links: Mapping[str, str]) -> Iterator[str]:
    while id in links:
        id = links[id]
        yield id


def _box(options: NodeOptions, *, is_fallback: bool) -> Box:
    kind: Kind = "fallback" if is_fallback else "node"
    if isinstance(options, Choosing | Asking):
        kind = "switch" if isinstance(options, Choosing) else "approval"
    about = options.type if options.label is None else f"{options.type} · {options.label}"
    condition = None if options.when is None else _expression(options.when)
    held, elements = options.held() if isinstance(options, Holding) else (None, None)
    return Box(options.id, kind, about, condition, held, None if elements is None else _expression(elements))


def _expression(value: Any) -> str:
    """A template without its brackets, where it is nothing but an expression."""
    return ((exact_expression(value) or value) if isinstance(value, str) else str(value)).strip()
