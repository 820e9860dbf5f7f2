"""The examples run as they are, from the first row to the table."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from atmosphere_service import serving

import batchrun

CONFIGS = Path(__file__).parents[3] / "configs"
REFUSED_WITH_503 = {"SANT", "SASO", "SAVB", "SCGZ", "SCSE", "SKCA", "SKFL", "SKFU", "SKIB", "SLPO"}


def test_quickstart_completes_every_row_with_typed_output(tmp_path: Path) -> None:
    """The first thing a new user runs gives a table without a failed row."""
    execution = batchrun.execute(CONFIGS / "quickstart.yaml", overrides={"dataset.limit": 300, "output.path": str(tmp_path)})
    assert execution.status == "completed"
    results = execution.results
    assert set(results["status"].to_pylist()) == {"completed"}
    assert results.num_rows == 300
    assert results.schema.field("output").type.field("takeoff_roll_ratio").type == pa.float64()
    assert {"iata", "name", "country"} <= set(results.column_names)


def test_http_example_retries_what_can_succeed_and_keeps_why_the_rest_failed(tmp_path: Path) -> None:
    """A throttled or briefly broken service costs no row; a request it will never take fails one."""
    with serving() as base_url:
        execution = batchrun.execute(
            CONFIGS / "http_service.yaml",
            overrides={"resources.atmosphere.base_url": base_url, "output.path": str(tmp_path)},
        )
    rows = execution.results.select(["source_item_id", "status", "attempts", "error"]).to_pylist()
    assert len(rows) == 368
    assert {row["source_item_id"]: row["error"]["http_status"] for row in rows if row["status"] == "failed"} == {"SLLP": 422}
    assert {row["source_item_id"] for row in rows if row["attempts"] > 1} == REFUSED_WITH_503
