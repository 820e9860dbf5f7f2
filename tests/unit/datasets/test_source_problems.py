from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.job import Dataset
from batchrun.datasets import Loaded, open_source


def test_every_problem_is_reported_at_once(tmp_path: Path, refusal: Any) -> None:
    """A job must not have to be corrected one mistake at a time."""
    pl.DataFrame({"priority": [1], "body": ["x"], "tags": [["a"]], "day": [dt.date(2026, 1, 1)]}).write_parquet(tmp_path / "t.parquet")
    message = refusal(
        "t.parquet",
        id="tags",
        input_field="bdy",
        filter="prioritty > 1",
        with_columns={"words": "length(bod)", "tomorrow": "day + "},
        columns=["priority", "boddy"],
        schema={"priority": "itn64", "tags": "int64", "zzz": "string"},
    )
    assert message.splitlines() == [
        'dataset.schema.priority: unknown type "itn64"; did you mean "int64"?',
        "dataset.schema.tags: list<item: string> cannot become int64",
        'dataset.schema.zzz: unknown column "zzz"; columns: body, day, priority, tags',
        'dataset.with_columns.words: unknown column "bod"; did you mean "body"?',
        "dataset.with_columns.tomorrow: it is no expression; write one such as size * 2 > 10 AND name LIKE 'a%'",
        'dataset.filter: unknown column "prioritty"; did you mean "priority"?',
        'dataset.columns[1]: unknown column "boddy"; did you mean "body"?',
        'dataset.input_field: unknown column "bdy"; did you mean "body"?',
        'dataset.id: "tags" is list<item: string>; an id is a text, a number or a date',
    ]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("prio", "must be true or false for each row, but is int64"),
        ("prio >", "it is no expression"),
        ('body = "x"', 'unknown column "x"; columns: body, day, prio; texts have single quotes'),
        ("prio = 'high'", "a text is compared with a number"),
        ("day >= '2024-02-01'", "write DATE '2024-02-01'"),
        ("day IN ('2024-02-01')", "write DATE '2024-02-01'"),
        ("prio > AVG(prio)", "one row at a time"),
        ("ROW_NUMBER() OVER (ORDER BY prio) = 1", "one row at a time"),
        ("foo(prio)", "unsupported function 'foo'"),
        ("body SIMILAR TO 'x'", "SimilarTo is not supported"),
        ("prio IN (SELECT 1)", "sub-queries"),
        ("body IN (FROM read_csv('/etc/hostname'))", "sub-queries"),
        ("body = 'x'' (SELECT' OR prio IN (select * from t)", "sub-queries"),
    ],
)
def test_a_bad_filter_is_refused_with_a_reason(tmp_path: Path, refusal: Any, expression: str, reason: str) -> None:
    """The message must say what to write instead, and no expression may read a file."""
    pl.DataFrame({"prio": [1], "body": ["x"], "day": [dt.date(2026, 1, 1)]}).write_parquet(tmp_path / "t.parquet")
    message = refusal("t.parquet", filter=expression)
    assert message.startswith("dataset.filter: ") and reason in message


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Int64, pl.Date, pl.Decimal(10, 2)])
def test_repeated_ids_are_found_wherever_they_are(tmp_path: Path, load: Any, refusal: Any, dtype: Any) -> None:
    """Two rows with one id would overwrite each other in every join; the message must name both rows."""
    numbers = [*range(300), 17, *range(300, 500), 17, 450]
    values: list[Any] = [dt.date(2000, 1, 1) + dt.timedelta(at) for at in numbers] if dtype == pl.Date else [str(at) for at in numbers]
    ids = pl.Series(values, dtype=pl.Date) if dtype == pl.Date else pl.Series(values).cast(dtype)
    pl.DataFrame({"key": ids, "at": range(len(numbers))}).write_parquet(tmp_path / "t.parquet", row_group_size=64)
    message = refusal("t.parquet", id="key")
    assert message.startswith('dataset.id: "key" is not unique: 3 rows repeat an earlier value, for example ')
    assert "in rows 17, 300, 501" in message and "in rows 451, 502" in message
    loaded = load("t.parquet", id="key", read=["at"], filter="at < 300")
    assert loaded.total_items == 300
    assert [item.id for window in loaded.windows() for item in window] == ids[:300].to_list()


def test_null_ids_are_refused_with_their_rows(tmp_path: Path, refusal: Any) -> None:
    """A row without an id cannot be found again in the result."""
    pl.DataFrame({"key": ["a", None, "b", None]}).write_parquet(tmp_path / "t.parquet")
    assert refusal("t.parquet", id="key") == 'dataset.id: "key" is null in 2 rows, for example in rows 1, 3 (item_index)'


def test_declared_types_are_strict_casts(tmp_path: Path, load: Any, refusal: Any) -> None:
    """A value that the declared type cannot hold is a refusal with an example, never a null or a cut-off number."""
    frame = pl.DataFrame({"day": ["2026-01-31", None], "n": [1.0, 2.5], "flag": ["TRUE", "false"], "big": [300, 1]})
    frame.write_parquet(tmp_path / "t.parquet")
    loaded = load(
        "t.parquet", schema={"day": "date", "flag": "bool", "big": "decimal(5, 2)"}, filter="day < DATE '2026-02-01'", keep=["day"]
    )
    [[item]] = loaded.windows()
    assert item.data == {"day": dt.date(2026, 1, 31), "n": 1.0, "flag": True, "big": Decimal("300.00")}
    assert loaded.window_schema.field("day").type == loaded.source_schema.field("day").type == pa.date32()
    assert refusal("t.parquet", schema={"n": "int64", "big": "int8"}).splitlines() == [
        "dataset.schema.n: 1 values are not int64, for example 2.5 in row 1 (item_index)",
        "dataset.schema.big: 1 values are not int8, for example 300 in row 0 (item_index)",
    ]
    pl.DataFrame({"raw": [b"text", b"\xff"]}).write_parquet(tmp_path / "u.parquet")
    assert "dataset.schema.raw: values cannot become string" in refusal("u.parquet", schema={"raw": "string"})


def test_a_file_that_breaks_while_items_are_read_is_an_execution_error(tmp_path: Path, load: Any) -> None:
    """Items read so far stay good, and the message names the file."""
    pq.write_table(pa.table({"a": range(100_000), "b": [str(at) for at in range(100_000)]}), tmp_path / "t.parquet", compression="none")
    loaded: Loaded = load("t.parquet")
    content = bytearray((tmp_path / "t.parquet").read_bytes())
    content[4 : len(content) - 5000] = b"\xff" * (len(content) - 5004)
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(ExecutionError, match=r"t\.parquet cannot be read"):
        list(loaded.windows())


def test_a_computed_value_that_fails_names_the_expression(tmp_path: Path, refusal: Any) -> None:
    """A filter that cannot be computed for some row is a mistake of the job, not of the file."""
    pl.DataFrame({"a": ["1", "x"]}).write_parquet(tmp_path / "t.parquet")
    message = refusal("t.parquet", filter="CAST(a AS INTEGER) > 0")
    assert message.startswith("dataset.filter: fails in ") and "x" in message


def test_unknown_columns_of_the_workflow_are_refused(tmp_path: Path, refusal: Any) -> None:
    """The last line of defence when names come from code instead of a checked job file."""
    pl.DataFrame({"body": ["x"]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(JobError, match="did you mean"):
        open_source(Dataset(path="t.parquet"), tmp_path).explain(["bodi"], [])
    assert refusal("t.parquet", keep=["bodi"]) == 'output.keep: unknown column "bodi"; did you mean "body"?'
