"""Any graph of nodes with fallbacks and switches, and what must become of an item on its way through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

import orjson
from hypothesis import strategies as st

from batchrun.core.items import NodeRecord
from batchrun.core.job import DefaultOnFailure, FallbackOnFailure
from batchrun.nodes.switch import SwitchNode

REMAINDERS = 3  # a switch goes by the remainder of the item's number


@dataclass(frozen=True)
class Ways:
    """A graph. Node 3 is called n3.

    Attributes:
        needs: what each node reads, by position.
        fallbacks: which node runs in the place of which.
        cases: the nodes that a switch chooses from, by remainder; for a last remainder without a node, none.
    """

    needs: tuple[tuple[int, ...], ...]
    fallbacks: Mapping[int, int]
    cases: Mapping[int, tuple[int, ...]]

    def failing(self, position: int) -> int | None:
        """The node that this one is the fallback for."""
        return next((node for node, fallback in self.fallbacks.items() if fallback == position), None)

    def choosers(self, position: int) -> list[int]:
        return [switch for switch, cases in self.cases.items() if position in cases]

    def replaced(self, position: int) -> Iterator[int]:
        """The nodes that this one stands in for."""
        failing = self.failing(position)
        while failing is not None:
            yield failing
            failing = self.failing(failing)

    def before(self, position: int) -> set[int]:
        """The nodes that must have ended."""
        asked = {*self.needs[position], *self.choosers(position)}
        own = {position, *self._after(position)}
        stand_ins = {fallback for each in asked for fallback in self._after(each)}
        failing = self.failing(position)
        return asked | (stand_ins - own) | ({failing} if failing is not None else set())

    def is_fallback(self, position: int) -> bool:
        return self.failing(position) is not None

    def has_an_order(self) -> bool:
        try:
            TopologicalSorter({position: self.before(position) for position in range(len(self.needs))}).prepare()
        except CycleError:
            return False
        return True

    def on_failure(self, position: int, otherwise: Any) -> Any:
        fallback = self.fallbacks.get(position)
        return otherwise if fallback is None else FallbackOnFailure(fallback=f"n{fallback}")

    def switch(self, position: int, **options: Any) -> SwitchNode:
        """The switch at a position; it fails for every seventh item."""
        chosen = {str(remainder): f"n{case}" for remainder, case in enumerate(self.cases[position])}
        on = f"{{{{ item.n.x if item.n % 7 == 6 else item.n % {REMAINDERS} }}}}"
        return SwitchNode(id=f"n{position}", on=on, cases=chosen, needs=tuple(f"n{need}" for need in self.needs[position]), **options)

    def _after(self, position: int) -> Iterator[int]:
        while position in self.fallbacks:
            position = self.fallbacks[position]
            yield position


@st.composite
def any_ways(draw: st.DrawFn) -> Ways:
    """A graph of up to six nodes, in an order in which no node reads a later one."""
    count = draw(st.integers(1, 6))
    needs = tuple(tuple(sorted(draw(st.sets(st.integers(0, p - 1), max_size=2)))) if p else () for p in range(count))
    fallbacks: dict[int, int] = {}
    cases: dict[int, tuple[int, ...]] = {}
    roles = {position: draw(st.sampled_from(["none", "none", "case", "fallback"])) for position in range(1, count)}
    for position, role in roles.items():
        free = [other for other in range(position) if other not in fallbacks]
        if role == "fallback" and free:
            ways = Ways(needs, {**fallbacks, draw(st.sampled_from(free)): position}, cases)
            fallbacks = dict((ways if ways.has_an_order() else Ways(needs, fallbacks, cases)).fallbacks)
        elif role == "case":
            for switch in draw(st.sets(st.integers(0, position - 1), min_size=1, max_size=2)):
                chosen = {**cases, switch: (*cases.get(switch, ()), position)}
                if len(chosen[switch]) <= REMAINDERS and Ways(needs, fallbacks, chosen).has_an_order():
                    cases = chosen
    return Ways(needs, fallbacks, cases)


@dataclass
class Walk:
    """Follows one item by the records of its nodes, and knows what each should have been.

    Attributes:
        ways: the graph.
        whens: a node only runs for items with a smaller number; null: for all.
        on_failure: of each node, where it has no fallback.
    """

    ways: Ways
    whens: tuple[int | None, ...]
    on_failure: tuple[Any, ...]

    def outputs(self, n: int, records: list[NodeRecord]) -> dict[int, Any]:
        """Check the records, which may be only the first of them. Returns what each node is to others in the end."""
        values: dict[int, Any] = {}
        status: dict[int, str] = {}
        for record in records:
            position = record[0]
            assert position not in status
            assert self.ways.before(position) <= status.keys()
            status[position] = record[1]
            assert (record[1] == "skipped") == self._is_skipped(position, n, status, values)
            if record[5] is not None and position not in self.ways.cases:
                assert orjson.loads(record[5]) == {"n": n} | {f"x{need}": values[need] for need in self.ways.needs[position]}
            if record[1] == "skipped":
                values[position] = None
                continue
            for each in (position, *self.ways.replaced(position)):
                values[each] = self._value(position, n) if record[1] == "completed" else self._otherwise(position)
        return values

    def given(self, position: int, n: int) -> str:
        """What the function at a position gives: the id of a node, another one for each position."""
        return f"n{(position + n) % max(6, len(self.ways.needs))}"

    def _value(self, position: int, n: int) -> Any:
        if position not in self.ways.cases:
            return self.given(position, n)
        return dict(enumerate(f"n{case}" for case in self.ways.cases[position])).get(n % REMAINDERS)

    def _otherwise(self, position: int) -> Any:
        on_failure = self.on_failure[position]
        return on_failure.default if position not in self.ways.fallbacks and isinstance(on_failure, DefaultOnFailure) else None

    def _is_skipped(self, position: int, n: int, status: Mapping[int, str], values: Mapping[int, Any]) -> bool:
        ways = self.ways
        failing = ways.failing(position)
        if failing is not None:
            return status[failing] != "failed"
        if ways.needs[position] and all(status[need] == "skipped" for need in ways.needs[position]):
            return True
        choosers, when = ways.choosers(position), self.whens[position]
        is_chosen = not choosers or any(values[chooser] == f"n{position}" for chooser in choosers)
        return not is_chosen or (when is not None and n >= when)
