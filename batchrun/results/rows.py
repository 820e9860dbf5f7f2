"""Rows of the result, made of what became of items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import ItemResult, ItemStatus

_BATCH_ROWS = 4096
_BATCH_BYTES = 8 * 2**20
_SIZE_OF_ONE_BYTES = 2**14
_ordinal = attrgetter("item.ordinal")
_first = itemgetter(0)


class ResultRows(NamedTuple):
    """Rows of the result.

    Attributes:
        ordinals: of the items, ascending, none of them twice.
        batch: the rows in Arrow form.
        executions: the node executions of these items; null where the table has all of them.
        statuses: how many items have which status.
        failures: id and error of each item that has failed.
        size_bytes: memory that the rows hold, together with others it may be.
    """

    ordinals: Sequence[int]
    batch: pa.RecordBatch
    executions: pa.RecordBatch | None
    statuses: Mapping[ItemStatus, int]
    failures: Sequence[tuple[Any, ErrorRecord]]
    size_bytes: int

    @property
    def weight(self) -> int:
        """How much they are of a backlog: as many results as take the same memory, about."""
        return max(1, min(len(self.ordinals), self.size_bytes // _SIZE_OF_ONE_BYTES))


class Gathered:
    """Rows that were made a few at a time, and are used many at a time."""

    def __init__(self) -> None:
        self._rows: list[ResultRows] = []

    def __bool__(self) -> bool:
        return bool(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether they are to be taken out."""
        return sum(len(rows.ordinals) for rows in self._rows) >= _BATCH_ROWS or sum(rows.size_bytes for rows in self._rows) >= _BATCH_BYTES

    def add(self, rows: ResultRows) -> None:
        """Take rows in any order."""
        self._rows.append(rows)

    def take(self) -> list[ResultRows]:
        """Take all out: together, unless an item is among them twice."""
        rows, self._rows = self._rows, []
        return rows if len(rows) < 2 else _joined(rows)


def ascending(results: Sequence[ItemResult]) -> tuple[Sequence[ItemResult], list[int]]:
    """Results in order, and their ordinals."""
    ordinals = _ordinals(results)
    if _are_ascending(ordinals):
        return results, ordinals
    results = sorted(results, key=_ordinal)
    return results, _ordinals(results)


def _joined(rows: list[ResultRows]) -> list[ResultRows]:
    ordinals = list(chain.from_iterable(each.ordinals for each in rows))
    batch = pa.concat_batches([each.batch for each in rows])
    if not _are_ascending(ordinals):  # several lanes took turns
        order = sorted(range(len(ordinals)), key=ordinals.__getitem__)
        batch, ordinals = batch.take(pa.array(order, pa.int64())), [ordinals[position] for position in order]
        if len(set(ordinals)) < len(ordinals):
            return rows
    statuses = Counter[ItemStatus]()
    for each in rows:
        statuses.update(each.statuses)
    executions = [each.executions for each in rows if each.executions is not None]
    together = pa.concat_batches(executions) if executions else None
    failures = list(chain.from_iterable(each.failures for each in rows))
    return [ResultRows(ordinals, batch, together, statuses, failures, sum(each.size_bytes for each in rows))]


def _ordinals(results: Sequence[ItemResult]) -> list[int]:
    return list(map(_first, map(_first, results)))  # the first field of the first one, the item


def _are_ascending(ordinals: list[int]) -> bool:
    first, count = ordinals[0], len(ordinals)
    # Mostly there are no gaps, and comparing with a range costs a quarter of looking at each pair.
    return ordinals == list(range(first, first + count)) or all(map(int.__lt__, ordinals, ordinals[1:]))
