"""Which way an item takes through a workflow: nodes that are chosen by others, and nodes that run in the place of failed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from batchrun.core.errors import known_values
from batchrun.core.job import FallbackOnFailure, NodeOptions


class Routed(Protocol):
    """What is to be known of a node."""

    @property
    def options(self) -> NodeOptions:
        """What the job says about it."""

    @property
    def position(self) -> int:
        """Its place in the job, from 0."""

    @property
    def sources(self) -> frozenset[str]:
        """The nodes it reads or needs."""

    @property
    def branches(self) -> frozenset[str]:
        """The nodes it chooses from."""


class Routes:
    """The ways through a workflow.

    Args:
        nodes: all nodes, by id.
        fallbacks: the node that runs in the place of another, by the id of that one.
    """

    def __init__(self, nodes: Mapping[str, Routed], fallbacks: Mapping[str, str]) -> None:
        self._nodes = nodes
        self._fallbacks = fallbacks
        self._failing = {fallback: id for id, fallback in fallbacks.items()}

    def is_fallback(self, id: str) -> bool:
        """Whether a node only runs in the place of another one."""
        return id in self._failing

    def choosers(self, id: str) -> set[str]:
        """The nodes that choose whether a node runs."""
        return {chooser for chooser, node in self._nodes.items() if id in node.branches}

    def stands_in_for(self, id: str) -> list[str]:
        """The nodes whose outputs are replaced by that of a fallback: the one it is the fallback for, and so on along the chain."""
        return list(_along(id, self._failing))

    def upstream(self, id: str) -> frozenset[str]:
        """The nodes that must have ended before a node begins; whoever reads or is chosen by one waits for its fallbacks as well."""
        asked = self._nodes[id].sources | self.choosers(id)
        stand_ins = {fallback for each in asked for fallback in _along(each, self._fallbacks)}
        own = {id, *_along(id, self._fallbacks)}  # a fallback may read the node that failed
        failing = {self._failing[id]} if id in self._failing else set()
        return asked | (stand_ins - own) | failing

    def reasons(self, order: Sequence[str]) -> Iterator[str]:
        """Why nodes wait for the one before them, where they neither read nor need it."""
        for before, id in pairwise(order):
            asked = self._nodes[id].sources | self.choosers(id)
            replaced = next((each for each in self.stands_in_for(before) if each in asked), None)
            if before in self._nodes[id].sources:
                continue
            if before in self.choosers(id):
                yield f"{id} waits for {before}, which chooses it"
            elif replaced is not None:
                yield f"{id} waits for {before}, which may run in the place of {replaced}"
            else:
                yield f"{id} waits for {before}, as it is the fallback for it"


def routes_of(nodes: Mapping[str, Routed], report: Callable[[tuple[str | int, ...], str], None]) -> Routes:
    """The ways through a workflow; mistakes in its fallbacks are reported."""
    fallbacks: dict[str, str] = {}
    for id, node in nodes.items():
        on_failure = node.options.on_failure
        if isinstance(on_failure, FallbackOnFailure):
            problem = _problem(id, on_failure.fallback, nodes, fallbacks)
            if problem is None:
                fallbacks[id] = on_failure.fallback
            else:
                report(("nodes", node.position, "on_failure", "fallback"), problem)
    return Routes(nodes, fallbacks)


def _problem(id: str, fallback: str, nodes: Mapping[str, Routed], fallbacks: Mapping[str, str]) -> str | None:
    if fallback not in nodes:
        return f'unknown node "{fallback}"; {known_values(fallback, nodes, kind="nodes")}'
    if fallback == id or id in _along(fallback, fallbacks):
        return f"node {fallback} would run in its own place"
    taken = next((other for other, chosen in fallbacks.items() if chosen == fallback), None)
    if taken is not None:
        return f"node {fallback} is the fallback of node {taken}; each node needs one of its own"
    if nodes[fallback].options.when is not None:
        return f"node {fallback} has a when, but a fallback runs whenever node {id} fails: remove it"
    if any(fallback in node.branches for node in nodes.values()):
        return f"node {fallback} is a case of a switch, and cannot be a fallback as well"
    return None


def _along(id: str, links: Mapping[str, str]) -> Iterator[str]:
    while id in links:
        id = links[id]
        yield id
