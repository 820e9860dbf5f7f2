"""The order of nodes, from what they refer to."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple


class Node(NamedTuple):
    """A node of the graph.

    Attributes:
        upstream: ids of the nodes that must end first.
        waits: whether it waits on the event loop.
        asks_person: whether it waits for a person. Items that do are parked, so it comes after all that can run without it.
    """

    upstream: frozenset[str]
    waits: bool
    asks_person: bool = False


def find_cycle(upstream: Mapping[str, frozenset[str]]) -> list[str] | None:
    """The ids along a cycle, the first one repeated at the end; None when there is none.

    Example:
        >>> find_cycle({"a": frozenset("b"), "b": frozenset("a")})
        ['a', 'b', 'a']
    """
    try:
        TopologicalSorter(upstream).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return None


def stages(nodes: Mapping[str, Node]) -> list[tuple[bool, list[str]]]:
    """Split the nodes of an acyclic graph into stages: (waits, ids in order).

    Nodes that do not wait and can follow one another make one stage, a stretch; all nodes that can then wait at the
    same time make the next. Within the constraints, the order is that of `nodes`.
    """
    done: set[str] = set()
    left = dict(nodes)
    found: list[tuple[bool, list[str]]] = []
    while left:
        stretch = _stretch(left, done)
        together = [id for id, node in left.items() if node.waits and node.upstream <= done]
        if not stretch and not together:
            stretch = _asking(left, done)
        if stretch and found and not found[-1][0]:
            found[-1][1].extend(stretch)
        elif stretch:
            found.append((False, stretch))
        if together:
            found.append((True, together))
        done.update(together)
        for id in together:
            del left[id]
    return found


def _stretch(left: dict[str, Node], done: set[str]) -> list[str]:
    stretch: list[str] = []
    while ready := next((id for id, node in left.items() if not (node.waits or node.asks_person) and node.upstream <= done), None):
        stretch.append(ready)
        done.add(ready)
        del left[ready]
    return stretch


def _asking(left: dict[str, Node], done: set[str]) -> list[str]:
    """The first node that waits for a person and can run, now that no other one can."""
    asking = next(id for id, node in left.items() if node.upstream <= done)
    done.add(asking)
    del left[asking]
    return [asking]
