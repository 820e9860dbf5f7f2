"""Reading and filtering a dataset, beside bare polars: into Arrow batches, and into items."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from batchrun import Dataset
from batchrun.datasets import Loaded, open_source
from benchmarks.jobs import make_dataset
from benchmarks.model import Aim, Case, Variant
from benchmarks.warming import WARM_ITEMS, first

_FILTER = "priority <= 2"
_COLUMNS = ("id", "body")
_BATCH_ROWS = 10_000


@contextmanager
def files(folder: Path, items: int, kinds: tuple[str, ...] = ("parquet", "csv")) -> Iterator[dict[str, Any]]:
    """The same rows as Parquet and as CSV, which takes several times the space."""
    parquet = make_dataset(folder / "items.parquet", items)
    if "csv" in kinds:
        pl.scan_parquet(parquet).sink_csv(folder / "items.csv")
    yield {"dataset": str(folder / "items")}


def by_polars(dataset: str, items: int, folder: str, kind: Literal["parquet", "csv"]) -> Any:
    """What polars needs for the rows that pass, in batches."""
    del folder
    scan = pl.scan_parquet if kind == "parquet" else pl.scan_csv

    def work(count: int) -> int:
        frame = scan(f"{dataset}.{kind}").head(count).filter(pl.sql_expr(_FILTER)).select(_COLUMNS)
        batches = frame.collect_batches(chunk_size=_BATCH_ROWS)
        return _all_of(count, sum(batch.to_arrow().num_rows for batch in batches))

    return lambda: work(items), first(lambda: work(WARM_ITEMS))


def by_batchrun(dataset: str, items: int, folder: str, kind: str, into: Literal["batches", "items"]) -> Any:
    """What batchrun needs: finding, checking and counting the items included."""

    def work(count: int | None) -> int:
        options = Dataset(path=f"{dataset}.{kind}", filter=_FILTER, limit=count)
        columns, copied = (_COLUMNS, ()) if into == "items" else ((), _COLUMNS)
        spool = Path(folder) / f"spool-{count}"
        spool.mkdir()
        loaded = open_source(options, Path(folder)).load(columns, copied, spool=spool, rejects=spool / "rejects.parquet")
        return _items(loaded) if into == "items" else _batches(loaded)

    return lambda: _all_of(items, work(None)), first(lambda: work(WARM_ITEMS))


def _items(loaded: Loaded) -> int:
    return sum(map(len, loaded.windows()))


def _batches(loaded: Loaded) -> int:
    return sum(batch.num_rows for _, batch in loaded.rest(bytearray(b"\1") * loaded.total_items))


def _all_of(items: int, passed: int) -> int:
    """How many rows were read, given how many passed: three in five do."""
    expected = items // 5 * 3 + min(items % 5, 3)
    return items if passed == expected else passed


def _case(kind: str, items: int) -> Case:
    this, given = "benchmarks.cases.reading", {"kind": kind}
    return Case(
        group="reading",
        name=f"reading {kind}",
        about=f"three in five rows of a {kind} file pass a filter; batchrun also finds, checks and counts them first",
        baseline="polars",
        variants=(
            Variant(name="polars", call=f"{this}:by_polars", arguments=given),
            Variant(name="batchrun, Arrow batches", call=f"{this}:by_batchrun", arguments={**given, "into": "batches"}),
            Variant(name="batchrun, items", call=f"{this}:by_batchrun", arguments={**given, "into": "items"}),
        ),
        files=partial(files, kinds=(kind,)),
        items=items,
        quick_items=20_000,
        aims=(Aim(variant="batchrun, Arrow batches", at_most=1 / 0.9, against="polars"),),
    )


CASES = (_case("parquet", 20_000_000), _case("csv", 5_000_000))
