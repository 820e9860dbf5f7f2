"""The columns of the result."""

from __future__ import annotations

import pyarrow as pa
import pytest

from batchrun.results import RESULT_COLUMNS, ResultLayout
from batchrun.results.schema import arrow_field, is_json
from batchrun.workflows.types import SCALAR_TYPES


def test_columns_are_the_documented_ones(layout: ResultLayout) -> None:
    """Programs and saved queries rely on names and order."""
    assert layout.schema.names == [*RESULT_COLUMNS, "priority", "opened", "place"]
    assert (
        *("source_item_id", "item_index", "status", "output", "error", "attempts", "started_at", "completed_at"),
        *("duration_ms", "reused_from", "node_executions"),
    ) == RESULT_COLUMNS


@pytest.mark.parametrize("name", SCALAR_TYPES)
def test_every_type_name_has_a_column_type(name: str) -> None:
    """What a job file may say about the output, the table can hold."""
    field = arrow_field("output", {"value": name, "values": [name]})

    assert field.type.field("values").type == pa.list_(field.type.field("value").type)
    assert is_json(field.type.field("value")) == (name == "json")
