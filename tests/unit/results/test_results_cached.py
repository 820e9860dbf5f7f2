"""How many outputs came from the cache, as the totals of a result say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from batchrun.core.items import ItemResult, NodeRecord
from batchrun.results import Journal, Recovered, ResultLayout, ResultTotals, ResultWriter

MakeResults = Callable[..., list[ItemResult]]


def from_cache(result: ItemResult) -> ItemResult:
    """The result with the outputs of its first node, if there is one, taken from the cache."""

    def hit(record: NodeRecord) -> NodeRecord:
        return (*record[:10], record[0] == 0)

    return result._replace(nodes=[hit(record) for record in result.nodes])


def totals_of(folder: Path, layout: ResultLayout, results: Sequence[ItemResult], **options: Any) -> ResultTotals:
    writer = ResultWriter(folder, layout, **options)
    writer.put(results)
    return writer.finish({}, len(results))


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
def test_hits_are_counted(
    tmp_path: Path, layout: ResultLayout, make_results: MakeResults, recording: Literal["full", "summary", "none"]
) -> None:
    """The count is that of the rows, whether or not they show it."""
    results = make_results(28)
    with_hits = [from_cache(result) if result.item.ordinal < 14 else result for result in results]
    totals = totals_of(tmp_path, replace(layout, node_executions=recording), with_hits)
    assert {node.node_id: (node.cached, node.calls) for node in totals.nodes} == {"clean": (12, 24), "classify": (0, 24), "final": (0, 0)}


def test_hits_of_an_earlier_run_are_counted(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """Totals of an execution that was resumed are those of all its rows."""
    results = [from_cache(result) for result in make_results(28)]
    with closing(Journal(tmp_path)) as journal:
        journal.begin({})
        writer = ResultWriter(tmp_path, layout, journal=journal)
        writer.put(results[:14])
        writer.abandon()
    with closing(Journal(tmp_path)) as journal:
        journal.begin({})
        writer = ResultWriter(tmp_path, layout, journal=journal, recovered=Recovered(tmp_path))
        writer.put(results[14:])
        totals = writer.finish({}, 28)
    assert totals.nodes[0].cached == 24
    assert ResultTotals.from_plain(asdict(totals)) == totals


def test_totals_of_an_older_version_have_no_hits(tmp_path: Path, layout: ResultLayout, make_results: MakeResults) -> None:
    """What was written down before there was a cache can still be shown."""
    plain = asdict(totals_of(tmp_path, layout, make_results(14)))
    for node in plain["nodes"]:
        del node["cached"]
    assert [node.cached for node in ResultTotals.from_plain(plain).nodes] == [0, 0, 0]
