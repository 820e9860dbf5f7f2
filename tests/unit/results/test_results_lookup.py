"""Finding one item: in the result, in the journal of a run that was killed or goes on, or nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchrun.core.items import ItemResult, KeptNode, NodeRecord
from batchrun.results import Journal, NoSuchItem, Recovered, ResultLayout, ResultWriter, find_item, journal_totals, result_lines
from batchrun.results.journal import AGAIN
from tests.unit.results.conftest import NODES, source_rows

ITEMS = 30
FAILED = 3
"""The ordinal of an item that failed; see the fixture `make_results`."""


def record(position: int, output: bytes) -> NodeRecord:
    """A node that completed."""
    started_at = 1_790_000_000_000_007 + position
    return (position, "completed", 1, started_at, 0.25, b'{"a":1}', output, None, "key", None, False)


def kept(ordinal: int) -> list[KeptNode]:
    """What is kept of an item of which one node has ended, and another one was called twice."""
    item_index = 10 * ordinal
    ended = KeptNode(ordinal, item_index, 1, "clean", record=record(0, b'{"text":"hello"}'), output=b'{"text":"hello"}')
    return [KeptNode(ordinal, item_index, 2, "classify", 2, checkpoint=b'{"page":12}'), ended]


def run(
    folder: Path, layout: ResultLayout, results: Sequence[ItemResult], *, nodes: Sequence[KeptNode] = (), again: Sequence[int] = ()
) -> Iterator[ResultWriter]:
    """A process that runs an execution: gives the writer once it has taken everything, and lets go of it at the end."""
    recovered = Recovered(folder) if (folder / "journal").exists() else None
    with closing(Journal(folder)) as journal:
        journal.begin({})
        if recovered is not None and again:
            journal.append(AGAIN, recovered.run_again(again, from_start=False))
        writer = ResultWriter(folder, layout, journal=journal, recovered=recovered)
        writer.keep(nodes)
        writer.put(results)
        yield writer


def killed(folder: Path, layout: ResultLayout, results: Sequence[ItemResult], **options: Any) -> None:
    """A process that ends without a result."""
    for writer in run(folder, layout, results, **options):
        writer.abandon()


def ended(folder: Path, layout: ResultLayout, results: Sequence[ItemResult], count: int) -> None:
    """A process that stops in the ordinary way: items without a result get the status `cancelled`."""
    for writer in run(folder, layout, results):
        done = {result.item.ordinal for result in results} | ({at for at, is_done in enumerate(Recovered(folder).done) if is_done})
        rest = [ordinal for ordinal in range(count) if ordinal not in done]
        for ordinal in rest:
            writer.put_rest(source_rows(ordinal, 1), [ordinal], "cancelled")
        writer.finish({}, count)


def dataset(count: int = ITEMS) -> Iterator[tuple[list[int], pa.RecordBatch]]:
    """The items of the dataset, in several parts."""
    for first in range(0, count, 7):
        rows = source_rows(first, min(7, count - first))
        yield list(range(first, first + rows.num_rows)), rows


def test_an_item_is_found_in_the_result(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """Completed, failed or skipped: an item is shown as it is in the table, whichever row it has."""
    ended(tmp_path, layout, make_results(ITEMS), ITEMS)
    rows = [json.loads(line) for line in result_lines(tmp_path, None, ITEMS)]
    assert {row["status"] for row in rows} == {"completed", "failed", "skipped"}
    for row in rows:
        found = find_item(tmp_path, row["source_item_id"], from_journal=False)
        assert (found.row, found.is_open) == (row, False)


def test_after_a_kill_the_journal_knows_the_items_that_ended(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]
) -> None:
    """A row that is in no result yet is the row it will be; what is asked for need not be near the end of the journal."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()
    ended(whole, layout, make_results(ITEMS), ITEMS)
    killed(folder, layout, make_results(ITEMS)[:10])
    killed(folder, layout, make_results(ITEMS)[10:20])
    for line in result_lines(whole, None, 20):
        row = json.loads(line)
        found = find_item(folder, row["source_item_id"], from_journal=True)
        assert (found.row, found.is_open) == (row, False)


def test_an_open_item_shows_how_far_it_is(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """Of an item that was begun there is each node that ended, then those that were called; of another one only what the dataset says."""
    killed(tmp_path, layout, make_results(ITEMS)[:4], nodes=[*kept(20), *kept(21)])
    begun = find_item(tmp_path, "T00021", from_journal=True, dataset=dataset())
    assert begun.is_open
    row = dict(begun.row)
    first, second = row.pop("node_executions")
    assert (row["source_item_id"], row["item_index"], row["status"], row["attempts"]) == ("T00021", 210, "running", 2)
    assert row["started_at"] == first["started_at"] == "2026-09-21T14:13:20.000007Z"
    assert (row["priority"], row["place"]["city"]) == (0, "Köln")
    assert (first["node_id"], first["status"], first["output"], first["call_key"]) == ("clean", "completed", {"text": "hello"}, "key")
    assert (second["node_id"], second["status"], second["attempts"], second["checkpoint"]) == ("classify", "running", 2, {"page": 12})
    waits = find_item(tmp_path, "T00029", from_journal=True, dataset=dataset())
    assert (waits.is_open, waits.row["status"], waits.row["attempts"], waits.row["node_executions"]) == (True, "pending", 0, [])
    table_row = json.loads(next(result_lines(_with_result(tmp_path / "table", layout, make_results), None, 1)))
    assert waits.row.keys() == table_row.keys()


def _with_result(folder: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> Path:
    folder.mkdir()
    ended(folder, layout, make_results(1), 1)
    return folder


def test_a_result_from_before_does_not_hide_what_came_after(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """After a pause, a resume and a kill, the result still says `cancelled` of items that have ended since or are open."""
    results = make_results(ITEMS)
    ended(tmp_path, layout, results[:10], ITEMS)
    killed(tmp_path, layout, results[10:20], nodes=kept(25))
    assert find_item(tmp_path, "T00012", from_journal=False).row["status"] == "cancelled"
    assert find_item(tmp_path, "T00012", from_journal=True).row["status"] == "skipped"
    found = find_item(tmp_path, "T00025", from_journal=True)  # the result knows which item this is
    assert (found.is_open, found.row["status"], found.row["item_index"], len(found.row["node_executions"])) == (True, "running", 250, 2)


def test_an_item_that_was_not_run_to_its_end_shows_the_nodes_that_were(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]
) -> None:
    """A pause leaves an empty row for an item that an earlier run had begun; what that run came to is not lost."""
    killed(tmp_path, layout, make_results(ITEMS)[:10], nodes=kept(25))
    ended(tmp_path, layout, make_results(ITEMS)[10:20], ITEMS)
    found = find_item(tmp_path, "T00025", from_journal=False)
    assert (found.is_open, found.row["status"]) == (False, "cancelled")
    assert [(node["node_id"], node["status"]) for node in found.row["node_executions"]] == [("clean", "completed"), ("classify", "running")]
    assert find_item(tmp_path, "T00026", from_journal=False).row["node_executions"] == []


def test_nodes_of_an_item_that_was_broken_off_are_shown_once(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]
) -> None:
    """What both the row and the journal have of an item in flight at a pause is the same thing, not two."""
    broken_off = make_results(ITEMS)[8]._replace(status="cancelled", output=None, nodes=[record(0, b'{"text":"hello"}')])
    for writer in run(tmp_path, layout, [*make_results(8), broken_off], nodes=kept(8)):
        writer.finish({}, 9)
    found = find_item(tmp_path, "T00008", from_journal=False)
    nodes = sorted((node["node_id"], node["status"]) for node in found.row["node_executions"])
    assert (found.row["status"], nodes) == ("cancelled", [("classify", "running"), ("clean", "completed")])


def test_an_item_is_found_far_behind(tmp_path: Path) -> None:
    """In a table of several row groups, a row is the one of its id, and what the journal keeps of it is found too."""
    count, wanted = 150_000, 149_000
    rows = pa.record_batch({"source_item_id": range(0, 3 * count, 3), "item_index": range(count)})
    layout = ResultLayout(window_schema=rows.schema, nodes=NODES)
    with closing(Journal(tmp_path)) as journal:
        journal.begin({})
        writer = ResultWriter(tmp_path, layout, journal=journal)
        writer.keep(kept(wanted))
        for first in range(0, count, 4096):
            part = rows.slice(first, 4096)
            writer.put_rest(part, list(range(first, first + part.num_rows)), "cancelled")
        writer.finish({}, count)
    found = find_item(tmp_path, str(3 * wanted), from_journal=False).row
    assert (found["source_item_id"], found["item_index"], len(found["node_executions"])) == (3 * wanted, wanted, 2)


def test_an_item_that_is_run_again_is_open(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """A retry makes the last result of a failed item a thing of the past, from its first moment on."""
    ended(tmp_path, layout, make_results(ITEMS), ITEMS)
    killed(tmp_path, layout, [], again=[FAILED])
    found = find_item(tmp_path, f"T{FAILED:05d}", from_journal=True)
    assert (found.is_open, found.row["status"], found.row["error"], found.row["attempts"]) == (True, "running", None, 4)
    again = make_results(ITEMS)[FAILED]
    killed(tmp_path, layout, [again._replace(attempts=7)])
    found = find_item(tmp_path, f"T{FAILED:05d}", from_journal=True)
    assert (found.is_open, found.row["status"], found.row["attempts"]) == (False, "failed", 7)


def test_reading_beside_a_writer_disturbs_nothing(
    tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks takes no lock, changes no file, and does not take half a frame for damage."""
    for writer in run(tmp_path, layout, make_results(ITEMS)[:10]):
        writer.abandon()  # all of it is written; the journal is still held and open
        (path,) = (tmp_path / "journal").glob("*.journal")
        whole = path.read_bytes()
        path.write_bytes(whole + b"\xff\x00\x00\x00half a frame")
        before = {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in (tmp_path / "journal").iterdir()}
        assert find_item(tmp_path, "T00009", from_journal=True).row["status"] == "completed"
        with pytest.raises(NoSuchItem):
            find_item(tmp_path, "T00010", from_journal=True)
        assert journal_totals(tmp_path, NODES).total_items == 10
        assert {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in (tmp_path / "journal").iterdir()} == before
    assert capfd.readouterr() == ("", "")


def test_an_unknown_id_is_answered_with_one_there_is(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """Who mistypes an id sees what ids look like; a text that is no text at all is no crash."""
    killed(tmp_path, layout, make_results(ITEMS)[:3])
    for source in (None, dataset()):
        with pytest.raises(NoSuchItem, match=r"there is no item '21' in .*; an id there is: 'T00000'"):
            find_item(tmp_path, "21", from_journal=True, dataset=source)
    for text in ("", "\udcff", "T0000", "t00000"):
        with pytest.raises(NoSuchItem):
            find_item(tmp_path, text, from_journal=True)
    ended(tmp_path, layout, make_results(ITEMS)[3:], ITEMS)
    unread = dataset()
    with pytest.raises(NoSuchItem, match="an id there is: 'T00000'"):
        find_item(tmp_path, "21", from_journal=False, dataset=unread)
    assert next(unread)[0][0] == 0  # a result has all of them: nobody reads a large dataset for nothing
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NoSuchItem, match="no item of it has ended so far"):
        find_item(empty, "1", from_journal=False)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (pa.array([7, 70, 700]), "70"),
        (pa.array([2**63, 2**64 - 1], pa.uint64()), "18446744073709551615"),
        (pa.array(["a", "7", "ü"], pa.large_string()), "ü"),
        (pa.array(["a", "b", "a b"]).dictionary_encode(), "a b"),
        (pa.array([0.5, 1.0]), "1.0"),
        (pa.array([Decimal("0.10"), Decimal("0.20")]), "0.20"),
        (pa.array([date(2026, 1, 1), date(2026, 1, 2)]), "2026-01-02"),
        (pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("ns", "UTC")), "2026-01-01T00:00:00.000000000Z"),
        (pa.array([b"\0", b"\xff"]), "/w=="),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_ids_of_every_type_are_found_by_their_text(tmp_path: Path, ids: pa.Array, text: str) -> None:
    """What `batchrun results --json` prints as an id is what an item is asked for with."""
    rows = pa.record_batch([ids, pa.array(range(len(ids)))], names=["source_item_id", "item_index"])
    writer = ResultWriter(tmp_path, ResultLayout(window_schema=rows.schema, nodes=NODES))
    writer.put_rest(rows, list(range(len(ids))), "cancelled")
    writer.finish({}, len(ids))
    (wanted,) = (row for row in map(json.loads, result_lines(tmp_path, None, 9)) if str(row["source_item_id"]) == text)
    assert find_item(tmp_path, text, from_journal=False).row == wanted


def test_the_journal_gives_the_totals_of_what_is_done(tmp_path: Path, layout: ResultLayout, make_results: Callable[..., Any]) -> None:
    """What a killed execution has done is counted as it would be in a result: items, nodes and failures, each once."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()
    for writer in run(whole, layout, make_results(20)):
        totals = writer.finish({}, 20)
    killed(folder, layout, make_results(ITEMS)[:15], nodes=kept(25))
    killed(folder, layout, make_results(ITEMS)[10:20])
    assert journal_totals(folder, NODES) == totals
