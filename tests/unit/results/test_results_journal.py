"""The journal of an execution: what was written down comes back as it was, whatever happens to the end of the file."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.errors import ErrorRecord, ExecutionError
from batchrun.core.items import ITEM_STATUSES, ItemResult, KeptNode, NodeRecord, Usage
from batchrun.results import Journal, Recovered, ResultLayout, ResultTotals, ResultWriter, read_results
from batchrun.results.journal import NODES as NODES_FRAME
from batchrun.results.journal import frames

ONE_FRAME_PER_ITEM = 8
"""`buffer_bytes` that let nothing wait: each result is a frame of its own, in the order they were put."""

ERROR = ErrorRecord("Timeout", "keine Antwort: 答え „nein“ \U0001f40c \0", "classify", retryable=True, http_status=503, traceback=None)
FAILED: NodeRecord = (
    1,
    "failed",
    3,
    1_790_000_000_000_250,
    30_000.125,
    '{"text":"Grüße 👋"}'.encode(),
    None,
    ERROR,
    "key-1",
    Usage(10, 5, 0.1),
)
ENDED: NodeRecord = (0, "completed", 1, 1_790_000_000_000_000, 0.25, b'{"a":1.0}', '{"b":"ü"}'.encode(), None, None, None, False)
NODES = [
    KeptNode(4, 40, 2, "clean", 0, ENDED, '{"b":"ü"}'.encode(), None),
    KeptNode(4, 40, 2, "classify", 2, FAILED, None, '{"seite":"zwölf"}'.encode()),
    KeptNode(4, 40, 3, "final", 1, None, None, b'{"page":12}'),
]


@contextmanager
def epoch(folder: Path) -> Iterator[Journal]:
    """A journal of one process."""
    with closing(Journal(folder)) as journal:
        journal.begin({})
        yield journal


def interrupted(
    folder: Path, layout: ResultLayout, results: Sequence[ItemResult], *, nodes: Sequence[KeptNode] = (), **options: Any
) -> None:
    """A run that ends without a result."""
    with epoch(folder) as journal:
        writer = ResultWriter(folder, layout, journal=journal, **options)
        writer.keep(nodes)
        writer.put(results)
        writer.abandon()


def finished(folder: Path, layout: ResultLayout, results: Sequence[ItemResult], count: int, **options: Any) -> ResultTotals:
    """A run to the end."""
    with epoch(folder) as journal:
        writer = ResultWriter(folder, layout, journal=journal, **options)
        writer.put(results)
        return writer.finish({}, count)


def recovered_rows(recovered: Recovered) -> dict[int, Any]:
    """The recovered rows by ordinal."""
    rows: dict[int, Any] = {}
    for ordinals, batch in recovered.rows():
        assert ordinals == sorted(ordinals) and not rows.keys() & set(ordinals)
        rows.update(zip(ordinals, batch.to_pylist(), strict=True))
    return rows


def done(recovered: Recovered) -> set[int]:
    """The ordinals of items that are done."""
    return {ordinal for ordinal, status in enumerate(recovered.done) if status}


def kept(recovered: Recovered, ordinal: int, *, epoch: int) -> list[KeptNode]:
    """What is kept of the nodes of an item, all of it by one run."""
    restored = recovered.item(ordinal)
    assert restored is not None and {node.epoch for node in restored.nodes} == {epoch}
    return [node._replace(epoch=0) for node in restored.nodes]


def run_without_locks(folder: Path) -> Journal:
    """A second process on a file system whose locks do not reach it."""
    (folder / "journal" / "lock").unlink()
    return Journal(folder)


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(30)),
    cuts=st.lists(st.integers(0, 30), min_size=1, max_size=3).map(sorted),
    buffer_bytes=st.sampled_from([ONE_FRAME_PER_ITEM, 40_000, 64 * 2**20]),
)
def test_an_interrupted_execution_ends_as_an_undisturbed_one(
    layout: ResultLayout, make_results: Callable[..., Any], order: list[int], cuts: list[int], buffer_bytes: int
) -> None:
    """However often and wherever a run is interrupted, what was done is kept as it was and the result is the same."""
    results = make_results(30)
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        whole, folder = Path(one), Path(other)
        totals = finished(whole, layout, results, 30)
        table = read_results(whole)
        originals = table.to_pylist()
        recovered = None
        for start, end in pairwise([0, *cuts]):
            interrupted(folder, layout, [results[ordinal] for ordinal in order[start:end]], recovered=recovered, buffer_bytes=buffer_bytes)
            recovered = Recovered(folder)

            assert recovered.dropped == []
            assert done(recovered) == set(order[:end])
            assert recovered_rows(recovered) == {ordinal: originals[ordinal] for ordinal in order[:end]}
            assert Counter({status: recovered.count(status) for status in ITEM_STATUSES}) == Counter(
                results[ordinal].status for ordinal in order[:end]
            )
            assert not (folder / "results.parquet").exists()
        rest = [results[ordinal] for ordinal in order[cuts[-1] :]]
        again = finished(folder, layout, rest, 30, recovered=recovered, buffer_bytes=buffer_bytes)

        assert read_results(folder).equals(table)
        assert (again.counters(), again.nodes) == (totals.counters(), totals.nodes)
        assert done(Recovered(folder)) == set(range(30))


@pytest.mark.parametrize("damage", ["cut", "zeroed", "flipped"])
def test_damage_costs_nothing_but_what_was_damaged(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any], damage: str
) -> None:
    """Wherever the end of a journal is damaged, the frames before it count, nothing wrong comes back, and the loss is said."""
    interrupted(tmp_path, layout, make_results(4)[2:], nodes=NODES, buffer_bytes=ONE_FRAME_PER_ITEM)
    path = tmp_path / "journal" / "000001.journal"
    content = path.read_bytes()
    read = list(frames(memoryview(content)))
    assert [frame.kind for frame in read] == [b"H", b"N", b"R", b"R"]
    ends = list(accumulate(9 + len(frame.body) for frame in read))
    assert ends[-1] == len(content)
    originals = {ordinals[0]: batch for ordinals, batch in Recovered(tmp_path).rows()}
    assert list(originals) == [2, 3]

    for offset in (place for place in range(ends[1], len(content)) if place % 7 == 0 or any(abs(place - end) < 20 for end in ends)):
        if damage == "cut":
            damaged = content[:offset]
        elif damage == "zeroed":
            damaged = content[:offset] + bytes(len(content) - offset)
        else:
            damaged = content[:offset] + bytes([content[offset] ^ 1 << offset % 8]) + content[offset + 1 :]
        path.unlink()  # a new file: the rows of the old one may still be mapped
        path.write_bytes(damaged)
        first = next((place for place in range(offset, len(damaged)) if damaged[place] != content[place]), len(damaged))

        recovered = Recovered(tmp_path)
        rows = {ordinals[0]: batch for ordinals, batch in recovered.rows()}
        assert done(recovered) == rows.keys() == {ordinal for ordinal in (2, 3) if first >= ends[ordinal]}, offset
        assert all(batch.equals(originals[ordinal]) for ordinal, batch in rows.items()), offset
        assert len(recovered.dropped) == (first < len(damaged) or first not in ends), offset
        assert kept(recovered, 4, epoch=1) == NODES


def test_kept_nodes_come_back_as_they_were(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A resume goes on from exactly what the nodes of an item had come to, and knows when; the last word about each node counts."""
    earlier = KeptNode(4, 40, 1, "classify", 1, None, None, b'{"page":1}')
    interrupted(tmp_path, layout, make_results(3), nodes=[earlier, *NODES])
    last = KeptNode(4, 40, 3, "final", 2, None, None, b'{"page":13}')
    interrupted(tmp_path, layout, [], nodes=[last])

    restored = Recovered(tmp_path).item(4)

    assert restored is not None and restored.attempts == 3
    assert [*restored.nodes] == [node._replace(epoch=1) for node in NODES[:2]] + [last._replace(epoch=2)]
    assert [(type(node.record[7]), type(node.record[9])) for node in restored.nodes if node.record == FAILED] == [(ErrorRecord, Usage)]
    assert Recovered(tmp_path).item(1) is None


def test_only_an_item_that_is_done_loses_its_nodes(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A cancelled item goes on from its nodes; of a done one nothing but its row is left."""
    results = make_results(5)
    cancelled = results[4]._replace(status="cancelled", output=None)
    interrupted(tmp_path, layout, [*results[:4], cancelled], nodes=NODES)

    recovered = Recovered(tmp_path)
    assert done(recovered) == set(recovered_rows(recovered)) == {0, 1, 2, 3}
    assert kept(recovered, 4, epoch=1) == NODES

    interrupted(tmp_path, layout, results[4:])
    recovered = Recovered(tmp_path)
    assert recovered.item(4) is None
    assert done(recovered) == set(recovered_rows(recovered)) == {0, 1, 2, 3, 4}


def test_a_checkpoint_is_in_the_file_before_the_node_goes_on(tmp_path: Path, layout: ResultLayout) -> None:
    """When `checkpoint` returns, a reader of the file finds the node, while the run goes on."""

    async def leave(writer: ResultWriter, ordinal: int) -> None:
        for page in range(10):
            node = KeptNode(ordinal, ordinal, 1, "final", checkpoint=b'{"page":%d}' % page)
            await writer.checkpoint(node)
            assert kept(Recovered(tmp_path), ordinal, epoch=1) == [node]

    async def run() -> None:
        await asyncio.gather(*(leave(writer, ordinal) for ordinal in range(4)))

    with epoch(tmp_path) as journal:
        writer = ResultWriter(tmp_path, layout, journal=journal)
        try:
            asyncio.run(run())
        finally:
            writer.abandon()


def test_checkpoints_that_come_together_go_to_the_disk_together(tmp_path: Path, layout: ResultLayout) -> None:
    """Each waits for the disk: one after another, many items that leave checkpoints would wait for all of the others."""

    async def run() -> None:
        nodes = [KeptNode(ordinal, ordinal, 1, "final", checkpoint=b"1") for ordinal in range(400)]
        await asyncio.gather(*map(writer.checkpoint, nodes))

    with epoch(tmp_path) as journal:
        writer = ResultWriter(tmp_path, layout, journal=journal)
        try:
            asyncio.run(run())
        finally:
            writer.abandon()
    path = tmp_path / "journal" / "000001.journal"
    assert sum(frame.kind == NODES_FRAME for frame in frames(memoryview(path.read_bytes()))) < 100


def test_one_process_at_a_time_runs_an_execution(tmp_path: Path) -> None:
    """Whoever comes second is told who is at work; after that one ended, the next epoch begins."""
    with epoch(tmp_path) as first:
        assert first.epoch == 1
        with pytest.raises(ExecutionError, match=re.escape(f"process {os.getpid()} on {os.uname().nodename}")):
            Journal(tmp_path)
    with epoch(tmp_path) as second:
        assert second.epoch == 2
    with closing(Journal(tmp_path)) as first, closing(run_without_locks(tmp_path)) as other:  # where locks do not reach
        other.begin({})
        with pytest.raises(ExecutionError, match=r"000003\.journal"):
            first.begin({})


def test_a_writer_that_was_overtaken_stops(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A process that was taken for dead and wakes up commits nothing more, takes nothing more and publishes nothing."""
    results = make_results(6)
    with epoch(tmp_path) as journal:
        finishing = ResultWriter(tmp_path, layout, journal=journal)
        finishing.put(results)
        later = run_without_locks(tmp_path)
        later.begin({})
        with pytest.raises(ExecutionError, match="another process has gone on"):
            finishing.finish({}, 6)

        running = ResultWriter(tmp_path, layout, journal=journal)
        with pytest.raises(ExecutionError, match="another process has gone on"):
            asyncio.run(running.checkpoint(NODES[0]))
        with pytest.raises(ExecutionError, match="another process has gone on"):
            running.put(results)
        running.abandon()
        later.close()

    assert later.epoch == 2
    assert not (tmp_path / "results.parquet").exists()


def test_the_row_of_the_later_epoch_counts(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """An item that ran twice has one row, the last one; the first one is neither counted nor written."""
    first = make_results(6, output=lambda ordinal: b'{"label":"first"}')
    second = make_results(8, output=lambda ordinal: b'{"label":"second"}')
    second[3] = first[0]._replace(item=second[3].item)  # failed, then completed
    interrupted(tmp_path, layout, first)
    interrupted(tmp_path, layout, second[2:])
    recovered = Recovered(tmp_path)
    labels = {ordinal: row["output"] for ordinal, row in recovered_rows(recovered).items()}

    assert labels == {ordinal: result.output and result.output.decode() for ordinal, result in enumerate([*first[:2], *second[2:]])}
    assert (recovered.count("completed"), recovered.count("failed"), recovered.count("skipped")) == (7, 0, 1)
    assert recovered.item(3) is None
    finished(tmp_path, layout, [], 8, recovered=recovered)
    assert read_results(tmp_path)["output"].to_pylist() == [labels[ordinal] for ordinal in range(8)]
