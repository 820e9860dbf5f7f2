"""What the parent of worker processes keeps for the case that one of them dies."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import polars as pl

from batchrun.core.items import KeptNode, RestoredItem, Usage
from batchrun.core.policies import Budget
from batchrun.datasets.handing import ORDINAL
from batchrun.dispatch.counts import Counts
from batchrun.execution.slices.account import Account, Items, Ports
from batchrun.execution.slices.begun import BegunItems
from batchrun.execution.slices.marks import Marks
from batchrun.execution.slices.messages import Rows
from batchrun.execution.slices.stock import Stock
from batchrun.flow.budget import Spending
from batchrun.results import ResultWriter
from batchrun.results.columns import ResultColumns
from batchrun.results.handed import handed_rows
from benchmarks import loops
from benchmarks.cases import writing
from benchmarks.jobs import make_dataset


def test_an_item_goes_on_where_its_worker_left_it() -> None:
    """What its nodes had come to is not done again, and what an earlier run kept of it holds as well."""
    earlier = KeptNode(7, 7, 1, "first", output=b"1")
    items = BegunItems({7: RestoredItem(2, 1, (earlier,), {"first": 3})}.get)
    items.keep([KeptNode(7, 7, 3, "second", checkpoint=b"0"), KeptNode(8, 8, 1, "first", output=b"2")])
    items.keep([KeptNode(7, 7, 3, "second", output=b"4")])
    found = items.of(range(6, 10))
    assert found[7] == RestoredItem(3, 1, (earlier, KeptNode(7, 7, 3, "second", output=b"4")), {"first": 3})
    assert found[8].nodes == (KeptNode(8, 8, 1, "first", output=b"2"),) and found.keys() == {7, 8}
    items.end([7, 8])
    assert items.of([7, 8]) == {7: RestoredItem(2, 1, (earlier,), {"first": 3})}


def test_marks_outlive_the_process_that_made_them() -> None:
    """Whatever ends a worker, its parent knows which items it was at."""
    with tempfile.TemporaryFile() as shared:
        marks = Marks.made(os.dup(shared.fileno()))
        child = os.fork()
        if not child:
            theirs = Marks(os.dup(shared.fileno()))
            theirs.take()[0], theirs.take()[0] = 3, 2**40
            os.kill(os.getpid(), 9)
        os.waitpid(child, 0)
    assert marks.ordinals == {3, 2**40}


def test_what_a_worker_did_not_run_is_handed_out_next() -> None:
    """Rows come out in order, each of them once, and never more than were asked for."""

    async def taken() -> list[list[int]]:
        frames = iter([pl.DataFrame({"k": [0, 1, 2]}), pl.DataFrame({"k": [3]})])
        stock = Stock(frames, 4)
        first, second = await stock.take(2), await stock.take(9)
        assert first is not None
        stock.give_back(first)
        assert stock.left == 3
        found = [second, await stock.take(1), await stock.take(9), await stock.take(9), await stock.take(9)]
        stock.close()
        return [[] if frame is None else frame["k"].to_list() for frame in found]

    assert asyncio.run(taken()) == [[2], [0], [1], [3], []]


def test_rows_of_other_items_do_not_count_as_those_of_a_slice(tmp_path: Path) -> None:
    """What a dead worker gives back has gaps where suspects were; their rows between it must not make it look done, or it is lost."""
    (batch,) = loops.batches(make_dataset(tmp_path / "items.parquet", 8))
    (results,) = writing.chunks(batch, 0)
    writer = ResultWriter(tmp_path, writing.LAYOUT)
    ports = Ports(writer, writer, Spending(Budget()), lambda _line: None, lambda _events: None, None)
    account = Account(Items(iter(()), None, 8, Counts(), None), ports)
    given_back = pl.DataFrame({ORDINAL: [1, 4, 5, 6, 7]})
    for ordinal in (2, 3, 1, 4, 5, 6, 7):
        assert not account.has_rows(given_back)
        for rows in handed_rows(results[ordinal : ordinal + 1], ResultColumns(writing.LAYOUT)):
            account.take(Rows(rows, (), Usage()))
    assert account.has_rows(given_back)
    assert account.unsettled(pl.DataFrame({ORDINAL: [0, 1, 7]}))[ORDINAL].to_list() == [0]
    writer.abandon()
