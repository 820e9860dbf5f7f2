"""What the parent of worker processes keeps for the case that one of them dies."""

from __future__ import annotations

import asyncio
import os
import tempfile

import polars as pl

from batchrun.core.items import KeptNode, RestoredItem
from batchrun.execution.slices.begun import BegunItems
from batchrun.execution.slices.marks import Marks
from batchrun.execution.slices.stock import Stock


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
