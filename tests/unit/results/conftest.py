"""Results of a made-up three-node workflow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import pyarrow as pa
import pytest

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import Item, ItemResult, NodeRecord
from batchrun.results import ResultLayout

START = 1_790_000_000_000_000
ERROR = ErrorRecord("Timeout", "no answer in 30 s", "classify", retryable=True, http_status=None, traceback="Traceback …")
NODES = (("clean", "python"), ("classify", "http"), ("final", "template"))
WINDOW_SCHEMA = pa.schema(
    [
        ("source_item_id", pa.string()),
        ("item_index", pa.int64()),
        ("priority", pa.int8()),
        ("opened", pa.date32()),
        ("place", pa.struct([("city", pa.string()), ("tags", pa.list_(pa.string()))])),
    ]
)

MakeResults: TypeAlias = Callable[..., list[ItemResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowWindow:
    """A window of source rows."""

    columns: pa.RecordBatch


def source_rows(first: int, count: int) -> pa.RecordBatch:
    """Source columns of items: their item index is 10 × the ordinal, as after a filter."""
    ordinals = range(first, first + count)
    return pa.record_batch(
        {
            "source_item_id": [f"T{ordinal:05d}" for ordinal in ordinals],
            "item_index": [10 * ordinal for ordinal in ordinals],
            "priority": [ordinal % 3 for ordinal in ordinals],
            "opened": [date(2026, 1, 1 + ordinal % 28) for ordinal in ordinals],
            "place": [{"city": "Köln", "tags": ["a", None]} if ordinal % 2 else None for ordinal in ordinals],
        },
        schema=WINDOW_SCHEMA,
    )


def _records(ordinal: int, *, fails: bool) -> list[NodeRecord]:
    started = START + ordinal * 1000
    clean: NodeRecord = (0, "completed", 1, started, 0.25, b'{"text":"hello %d"}' % ordinal, b'{"text":"hello"}', None, None, None, False)
    if fails:
        failed: NodeRecord = (1, "failed", 3, started + 250, 30_000.0, b'{"text":"hello"}', None, ERROR, f"key-{ordinal}", None, False)
        return [clean, failed]
    classify: NodeRecord = (
        1,
        "completed",
        1,
        started + 250,
        1.5,
        b'{"text":"hello"}',
        b'{"label":"refund"}',
        None,
        f"key-{ordinal}",
        None,
        False,
    )
    return [clean, classify, (2, "skipped", 0, None, 0.0, None, None, None, None, None, False)]


def _result(item: Item, output: Any) -> ItemResult:
    started = START + item.ordinal * 1000
    if item.ordinal % 7 == 3:
        return ItemResult(item, "failed", None, ERROR, 3, started, 30_000.25, _records(item.ordinal, fails=True))
    if item.ordinal % 7 == 5:
        return ItemResult(item, "skipped", None, None, 1, started, 0.0, ())
    return ItemResult(item, "completed", output(item.ordinal), None, 1, started, 1.75, _records(item.ordinal, fails=False))


@pytest.fixture(scope="session")
def make_results() -> MakeResults:
    """Makes results of items 0, 1, 2, …; every seventh failed, every seventh was skipped."""

    def make(count: int, *, window_rows: int = 7, output: Any = lambda ordinal: b'{"label":"refund","n":%d}' % ordinal) -> list[ItemResult]:
        results = []
        for first in range(0, count, window_rows):
            window = ArrowWindow(columns=source_rows(first, min(window_rows, count - first)))
            for row in range(window.columns.num_rows):
                ordinal = first + row
                item = Item(ordinal, 10 * ordinal, f"T{ordinal:05d}", {"body": "…"}, window, row)
                results.append(_result(item, output))
        return results

    return make


@pytest.fixture(scope="session")
def layout() -> ResultLayout:
    """The table of these results."""
    return ResultLayout(window_schema=WINDOW_SCHEMA, nodes=NODES)
