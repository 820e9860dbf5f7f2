"""What retries leave in journals: read back after damage, asked by SQL, and in little memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.items import ItemResult, KeptNode
from batchrun.results import Journal, Recovered, ResultLayout, ResultWriter, read_results
from batchrun.results.journal import AGAIN, frames

NODE_IDS = ("clean", "classify", "final")
ONE_FRAME_PER_ITEM = 8
"""`buffer_bytes` that let nothing wait: each result is a frame of its own, in the order they were put."""

MakeResults: TypeAlias = Callable[..., list[ItemResult]]
Run: TypeAlias = Callable[[Recovered, Journal, ResultWriter], None]


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len([*folder.iterdir()]) if folder.is_dir() else 0


def written(folder: Path, layout: ResultLayout, *runs: Run, buffer_bytes: int = ONE_FRAME_PER_ITEM) -> Path:
    """An execution of these runs, none of which comes to a result."""
    for run in runs:
        recovered = Recovered(folder)
        with closing(Journal(folder)) as journal:
            journal.begin({})
            writer = ResultWriter(folder, layout, journal=journal, recovered=recovered, buffer_bytes=buffer_bytes)
            run(recovered, journal, writer)
            writer.abandon()
    return folder


def three_runs(folder: Path, layout: ResultLayout, make_results: MakeResults) -> Path:
    """Items 3 and 10 of 12 fail; both are run again, 3 completes; 10 is run again from the start and has not ended."""
    results = make_results(12)
    clean = KeptNode(10, 100, 1, "clean", record=results[10].nodes[0], output=b"1")

    def first(_: Recovered, journal: Journal, writer: ResultWriter) -> None:
        writer.keep([clean, clean._replace(ordinal=3)])
        writer.put(results)

    def second(recovered: Recovered, journal: Journal, writer: ResultWriter) -> None:
        journal.append(AGAIN, recovered.run_again([3, 10], from_start=False))
        writer.keep([KeptNode(10, 100, 5, "classify", 2)])
        writer.put([results[3]._replace(status="completed", error=None, attempts=4), results[10]._replace(attempts=5)])

    def third(recovered: Recovered, journal: Journal, writer: ResultWriter) -> None:
        journal.append(AGAIN, recovered.run_again([10], from_start=True))
        writer.keep([KeptNode(10, 100, 7, "clean", 1)])
        writer.put([results[10]._replace(status="cancelled", error=None)])

    return written(folder, layout, first, second, third)


def open_items(recovered: Recovered) -> list[int]:
    return [ordinal for ordinal, status in enumerate(recovered.done.ljust(12, b"\0")[:12]) if not status]


def told(folder: Path) -> tuple[Any, ...]:
    """Everything a journal says of three_runs."""
    recovered = Recovered(folder)
    rows = [(ordinals, batch.to_pylist()) for ordinals, batch in recovered.rows()]
    return rows, [(ordinal, recovered.item(ordinal)) for ordinal in open_items(recovered)]


def test_what_two_retries_leave_is_read_back(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """The generation rises with each retry, attempts add up, and a retry from the start goes on from nothing but its own."""
    recovered = Recovered(three_runs(tmp_path, layout, make_results))

    assert open_items(recovered) == [10]
    restored = recovered.item(10)
    assert restored is not None
    assert (restored.attempts, restored.generation) == (7, 2)
    assert restored.nodes == (KeptNode(10, 100, 7, "clean", 1, epoch=3),)
    assert dict(restored.earlier_attempts) == {"clean": 1, "classify": 3}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_the_same_as_an_end_before_it(layout: ResultLayout, make_results: MakeResults, data: st.DataObject) -> None:
    """In whichever run a journal was damaged, retries before and after it included: the whole frames count, the loss is said."""
    with TemporaryDirectory() as name:
        folder = three_runs(Path(name), layout, make_results)
        path = folder / "journal" / f"{data.draw(st.integers(1, 3)):06d}.journal"
        content = path.read_bytes()
        ends = [0, *accumulate(9 + len(frame.body) for frame in frames(memoryview(content)))]
        end, offset = data.draw(st.sampled_from(ends[:-1])), data.draw(st.integers(0, 50))
        broken = min(end + offset, ends[ends.index(end) + 1] - 1)
        path.write_bytes(content[:end])
        expected = told(folder)
        path.unlink()  # a new file: the old one may still be mapped
        path.write_bytes(content[:broken] + bytes([content[broken] ^ 0x10]) + content[broken + 1 :])
        assert told(folder) == expected
        (loss,) = Recovered(folder).dropped
        assert path.name in loss
        written_to_the_end(folder, layout, make_results(12))
        assert read_results(folder)["item_index"].to_pylist() == [10 * ordinal for ordinal in range(12)]


def written_to_the_end(folder: Path, layout: ResultLayout, results: Sequence[ItemResult]) -> None:
    recovered = Recovered(folder)
    with closing(Journal(folder)) as journal:
        journal.begin({})
        writer = ResultWriter(folder, layout, journal=journal, recovered=recovered)
        writer.put([results[ordinal] for ordinal in open_items(recovered)])
        writer.finish({}, 12)


def test_a_retry_whose_frame_was_torn_has_not_happened(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """Killed while it writes down its choice, a retry leaves the items failed, with the rows they had."""
    three_runs(tmp_path, layout, make_results)
    (tmp_path / "journal" / "000003.journal").unlink()
    path = tmp_path / "journal" / "000002.journal"
    _, again, *_ = frames(memoryview(path.read_bytes()))
    assert again.kind == AGAIN
    os.truncate(path, again.start + len(again.body) - 1)
    recovered = Recovered(tmp_path)
    assert (recovered.failed(None), len(recovered.dropped)) == ([3, 10], 1)


def test_a_retry_of_rows_that_were_lost_since_still_counts(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """When the machine lost what the retry had read, its items are run again all the same, and no later row is lost."""
    three_runs(tmp_path, layout, make_results)
    path = tmp_path / "journal" / "000001.journal"
    os.truncate(path, next(frames(memoryview(path.read_bytes()))).start)
    recovered = Recovered(tmp_path)
    assert [ordinal for ordinal, status in enumerate(recovered.done) if status] == [3]
    restored = recovered.item(10)
    assert restored is not None and (restored.attempts, restored.generation) == (7, 2)


def test_a_choice_by_sql_sees_the_last_row_of_each_item(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """Rows of earlier runs, and of items that are open again, are not asked; of the others any column may be."""
    folder = three_runs(tmp_path, layout, make_results)
    results = make_results(100)

    def fourth(_: Recovered, journal: Journal, writer: ResultWriter) -> None:
        error = results[17].error
        assert error is not None
        writer.put(results[12:17])
        cancelled = [result._replace(status="cancelled", error=None) for result in results[18:]]
        writer.put([results[17]._replace(error=error._replace(type="QuotaExhausted", node_id=None)), *cancelled])

    recovered = Recovered(written(folder, layout, fourth, buffer_bytes=2**20))
    assert recovered.failed(None) == [17]
    for where, found in {
        "error.type = 'QuotaExhausted'": [17],
        "error.type = 'Timeout'": [],
        "error.node_id IS NULL": [17],
        "source_item_id IN ('T00003', 'T00010', 'T00017')": [17],
        "attempts >= 1 AND priority = 2": [17],
        "priority > 5": [],
        "1 = 1": [17],
        "attempts > NULL": [],
    }.items():
        assert recovered.failed(pl.sql_expr(where)) == found, where


def test_a_kept_column_may_have_any_name(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """What the journal adds to the rows must not be taken for a column of the dataset, nor the other way round."""
    names = {"priority": "ordinal", "opened": "body"}
    schema = pa.schema([field.with_name(names.get(field.name, field.name)) for field in layout.window_schema])
    layout, results = ResultLayout(window_schema=schema, nodes=layout.nodes), []
    for result in make_results(5):
        window = type(result.item.window)(columns=result.item.window.columns.rename_columns(schema.names))
        results.append(result._replace(item=result.item._replace(window=window)))
    recovered = Recovered(written(tmp_path, layout, lambda _recovered, _journal, writer: writer.put(results)))
    assert recovered.failed(pl.sql_expr("ordinal = 0")) == [3]
    assert [batch.column("ordinal").to_pylist() for _, batch in recovered.rows()] == [[0], [1], [2], [0], [1]]


def test_what_many_runs_have_kept_is_found(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """An execution that was resumed day after day still finds what its first runs left, without a file held open for each."""
    (result,) = make_results(1)
    nodes = [KeptNode(0, 0, 1 + run, f"node{run}", record=result.nodes[0], output=b"%d" % run) for run in range(40)]
    runs = [lambda _recovered, _journal, writer, node=node: writer.keep([node]) for node in nodes]
    recovered = Recovered(written(tmp_path, layout, *runs))
    before = open_files()
    restored = recovered.item(0)
    assert restored is not None
    assert [(node.node_id, node.output, node.epoch) for node in restored.nodes] == [
        (f"node{run}", b"%d" % run, 1 + run) for run in range(40)
    ]
    assert open_files() < before + 10


def test_a_failed_item_takes_a_few_bytes_until_it_runs_again(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """Everything may have failed at once: choosing all of it must not hold the outputs of its nodes in memory."""
    results, count = make_results(3_000), 3_000
    failed = [result._replace(status="failed", output=None, error=results[3].error, nodes=results[3].nodes) for result in results]
    record, output = results[3].nodes[0], b'"%b"' % (b"x" * 500)
    nodes = [KeptNode(ordinal, 0, 3, id, record=record, output=output) for ordinal in range(count) for id in NODE_IDS]

    def first(_: Recovered, journal: Journal, writer: ResultWriter) -> None:
        writer.keep(nodes)
        writer.put(failed)

    written(tmp_path, layout, first, buffer_bytes=2**20)
    tracemalloc.start()
    try:
        recovered = Recovered(tmp_path)
        recovered.run_again(recovered.failed(None), from_start=False)
        recovered.read_open_items()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    restored = recovered.item(count - 1)
    assert restored is not None and [node.output for node in restored.nodes] == [output] * 3
    assert held / count < 200
