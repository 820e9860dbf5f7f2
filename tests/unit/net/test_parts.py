"""Values as they are written into requests."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import InvalidValue
from batchrun.net.parts import form_body, header_value, json_body, query_string, text_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        (3, "3"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (True, "true"),
        (Decimal("1.50"), "1.50"),
        (date(2026, 11, 1), "2026-11-01"),
        (datetime(2026, 11, 1, 9, tzinfo=UTC), "2026-11-01T09:00:00+00:00"),
    ],
)
def test_single_values_become_text_as_json_writes_them(value: Any, text: str) -> None:
    """One rule for values in paths, queries, forms, headers and bodies."""
    assert text_of(value, "id") == text


@pytest.mark.parametrize("value", [None, float("nan"), float("-inf"), [1], {"a": 1}, "\ud800", object()])
def test_what_is_not_a_single_value_is_refused_by_name(value: Any) -> None:
    """`None` or `[1, 2]` in an address would silently ask for something else."""
    with pytest.raises(InvalidValue):
        text_of(value, "id")


@given(st.dictionaries(TEXT, st.one_of(st.none(), TEXT, st.lists(TEXT))))
def test_queries_and_forms_read_back_as_they_were_written(values: dict[str, Any]) -> None:
    """Data with `&`, `=`, `+` or line breaks must not turn into other parameters."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    pairs = [(name, one) for name, several in lists.items() for one in several if one is not None]
    assert parse_qsl(query_string(values, "query"), keep_blank_values=True) == pairs
    assert parse_qsl(form_body(values, "form").decode("ascii"), keep_blank_values=True) == pairs


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\nb", "a\x00", "\x7f"])
def test_headers_cannot_be_broken_out_of(value: str) -> None:
    """A line break in item data would add headers, or a whole second request."""
    with pytest.raises(InvalidValue, match="'X-Name' has a line break or another control character"):
        header_value(value, "X-Name")


def test_json_bodies_keep_values_exactly() -> None:
    """Large integers, nulls and text of any kind arrive as they are in the dataset."""
    value = {"n": 2**70, "none": None, "text": "ü\ud800", "money": Decimal("1.10"), "list": [1.5, True]}
    assert json.loads(json_body(value)) == {**value, "money": "1.10"}


@pytest.mark.parametrize("value", [float("nan"), {"a": [1.0, float("inf")]}, [None, (float("-inf"),)]])
def test_json_bodies_refuse_what_json_cannot_say(value: Any) -> None:
    """NaN sent as null would be another value than the one in the dataset."""
    with pytest.raises(InvalidValue, match="NaN or infinity"):
        json_body(value)
