"""When finished items are on the disk: soon, whatever else there is to write."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from batchrun.core.items import KeptNode
from batchrun.results import Journal, ResultLayout, ResultWriter
from batchrun.results.files import hidden
from batchrun.results.reader import RESULT_FILE
from tests.unit.results.conftest import MakeResults

CHECKPOINT = KeptNode(90, 90, 1, "final", checkpoint=b"1")


@contextmanager
def epoch(folder: Path) -> Iterator[Journal]:
    """A journal of one process."""
    with closing(Journal(folder)) as journal:
        journal.begin({})
        yield journal


def test_what_waited_for_an_item_does_not_hold_up_the_journal(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """When an item that hung ends, gigabytes may have waited for it: other items are brought to the disk before all of that is written."""
    results = make_results(64, output=lambda _: b'"%s"' % os.urandom(500_000).hex().encode())
    at_work, may_go_on = threading.Event(), threading.Event()
    written: list[int] = []

    def spent() -> dict[str, int]:
        """Called for each commit, by the thread that writes the result."""
        written.append(hidden(tmp_path / RESULT_FILE).stat().st_size)
        at_work.set()
        may_go_on.wait()
        return {}

    async def run() -> None:
        checkpoint = asyncio.ensure_future(writer.checkpoint(CHECKPOINT))
        await asyncio.sleep(0)  # it is handed over
        may_go_on.set()
        await checkpoint

    with epoch(tmp_path) as journal:
        writer = ResultWriter(tmp_path, layout, journal=journal, spent=spent, buffer_bytes=16 * 2**20)
        writer.put(results[1:])
        at_work.wait()
        writer.put(results[:1])
        asyncio.run(run())
        writer.finish({}, len(results))

    assert written[1] < written[-1] / 2
    metadata = pq.read_metadata(tmp_path / RESULT_FILE)
    assert max(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)) < 20 * 2**20


def test_results_that_come_while_rows_leave_wait_for_none_of_them(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """Items end all the time while what waited for another one is written: each is taken up at once, or it would be seconds late."""
    results = make_results(84, output=lambda ordinal: b'"%s"' % os.urandom(500_000 if ordinal < 64 else 5).hex().encode())
    at_work, may_go_on = threading.Event(), threading.Event()
    written: list[tuple[int, int]] = []

    def spent() -> dict[str, int]:
        """Called for each commit, by the thread that writes the result."""
        written.append((writer.totals.total_items, hidden(tmp_path / RESULT_FILE).stat().st_size))
        if writer.totals.total_items == 64:
            at_work.set()
            may_go_on.wait()
        return {}

    async def run() -> None:
        for result in results[64:]:
            writer.put([result])
        checkpoint = asyncio.ensure_future(writer.checkpoint(CHECKPOINT))
        await asyncio.sleep(0)  # it is handed over
        may_go_on.set()
        await checkpoint

    with epoch(tmp_path) as journal:
        writer = ResultWriter(tmp_path, layout, journal=journal, spent=spent)
        writer.put(results[1:64])
        writer.put(results[:1])
        at_work.wait()
        asyncio.run(run())
        writer.finish({}, len(results))

    assert min(size for items, size in written if items == 84) < (tmp_path / RESULT_FILE).stat().st_size / 2


def test_rows_are_on_the_disk_before_they_go_into_the_result(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """To compress what goes into the result takes as long as an item that has ended may be at risk."""
    results = make_results(24, output=lambda _: b'"%s"' % os.urandom(500_000).hex().encode())
    written: list[tuple[int, int]] = []

    def spent() -> dict[str, int]:
        """Called for each commit, just before it."""
        written.append((writer.totals.total_items, hidden(tmp_path / RESULT_FILE).stat().st_size))
        return {}

    async def run() -> None:
        for first in range(0, 24, 6):  # four of them fill a row group
            writer.put(results[first : first + 6])
            await writer.checkpoint(CHECKPOINT)

    with epoch(tmp_path) as journal:
        writer = ResultWriter(tmp_path, layout, journal=journal, spent=spent)
        asyncio.run(run())
        writer.finish({}, len(results))

    assert min(size for items, size in written if items == 24) < 2**20


def test_the_last_results_are_on_the_disk_before_what_waited_is_written(
    tmp_path: Path, layout: ResultLayout, make_results: MakeResults
) -> None:
    """An item that hung ends last, and takes all others with it: what has ended must not be at risk for as long as they are written."""
    results = make_results(64, output=lambda _: b'"%s"' % os.urandom(500_000).hex().encode())
    written: list[tuple[int, int]] = []

    def spent() -> dict[str, int]:
        """Called for each commit, just before it."""
        written.append((writer.totals.total_items, hidden(tmp_path / RESULT_FILE).stat().st_size))
        return {}

    with epoch(tmp_path) as journal:
        writer = ResultWriter(tmp_path, layout, journal=journal, spent=spent)
        writer.put(results[1:])
        writer.put(results[:1])
        writer.finish({}, len(results))

    assert min(size for items, size in written if items == 64) < (tmp_path / RESULT_FILE).stat().st_size / 2
