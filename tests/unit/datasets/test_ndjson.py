"""NDJSON files, one object a line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest


def data_of(loaded: Any) -> list[dict[str, Any]]:
    """The data of all items."""
    return [item.data for window in loaded.windows() for item in window]


def test_values_arrive_as_they_are(tmp_path: Path, load: Any) -> None:
    """Missing keys are null, nested values stay nested, and a column of mixed kinds is kept as JSON text."""
    lines = [
        '\ufeff{"a": 1, "s": "é🎉", "o": {"x": [1, 2]}, "m": 1, "f": 1}\r\n\n',
        '{"a": null, "o": null, "m": {"k": "v"}, "f": 2.5, "late": true}\n',
        '{"s": ""}',
    ]
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    assert data_of(load("t.jsonl.gz")) == [
        {"a": 1, "s": "é🎉", "o": {"x": [1, 2]}, "m": "1", "f": 1.0, "late": None},
        {"a": None, "s": None, "o": None, "m": '{"k": "v"}', "f": 2.5, "late": True},
        {"a": None, "s": "", "o": None, "m": None, "f": None, "late": None},
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": "x", "o": {"k": 1}}', "cannot parse 'x' (string) as Int64; declare the column in dataset.schema"),
        ('{"a": 1, "new": 2}', 'the key "new" is in none of the first rows; declare it in dataset.schema: {new: string}'),
        ('{"a": 1, "o": {"k": 1, "new": 2}}', 'the key "o.new" is in none of the first rows; declare it in dataset.schema: {o: string}'),
        ('{"a": 1', "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"a": "\udcff"}', "not JSON"),
    ],
)
def test_a_late_surprise_names_its_line(tmp_path: Path, refusal: Any, line: str, reason: str) -> None:
    """Types come from the first rows; nothing further down may be dropped or bent silently."""
    content = '{"a": 1, "o": {"k": 1}}\n' * 30_000 + line + "\n" + '{"a": 2}\n'
    (tmp_path / "t.ndjson").write_bytes(content.encode(errors="surrogateescape"))
    message = refusal("t.ndjson")
    assert "t.ndjson, line 30001: " in message and reason in message


def test_declared_columns_take_any_value_of_their_type(tmp_path: Path, load: Any, refusal: Any) -> None:
    """dataset.schema is the way out of every surprise, for keys the first rows do not have, too."""
    (tmp_path / "t.ndjson").write_text('{"zip": 1234}\n' * 25_000 + '{"zip": "01234", "late": "2026-01-31"}\n')
    loaded = load("t.ndjson", schema={"zip": "string", "late": "date"})
    assert data_of(loaded)[-1]["zip"] == "01234" and str(data_of(loaded)[-1]["late"]) == "2026-01-31"
    assert 'line 25001: column "late" is declared as bool, got "2026-01-31"' in refusal(
        "t.ndjson", schema={"zip": "string", "late": "bool"}
    )
