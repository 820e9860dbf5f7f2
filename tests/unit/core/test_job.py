"""What the words of a job may say."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchrun.core.checks import InvalidFields, above, at_least, ratio, refuse
from batchrun.core.job import CsvFormat, Dataset, NodeOptions, Resource, Run, Sample, Workflow
from batchrun.core.policies import Backoff, FailurePolicy, Match, Retry


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Sample, {"fraction": 1.5}, "fraction: must be between 0 and 1, got 1.5"),
        (Sample, {"n": -1}, "n: must be ≥ 0, got -1"),
        (Sample, {}, "give either fraction or n"),
        (Sample, {"fraction": 0.1, "n": 1}, "give either fraction or n"),
        (
            CsvFormat,
            {"delimiter": "", "quote": "«"},
            "delimiter: must be one ASCII character, got ''; quote: must be one ASCII character, got '«'",
        ),
        (Dataset, {"path": "x", "limit": -1}, "limit: must be ≥ 0, got -1"),
        (Resource, {"base_url": "http://x", "max_concurrency": 0}, "max_concurrency: must be ≥ 1, got 0"),
        (Match, {}, "give at least one condition: http_status, error_type, message or body"),
        (Backoff, {"initial_seconds": -1, "multiplier": 0.5}, "initial_seconds: must be ≥ 0, got -1; multiplier: must be ≥ 1, got 0.5"),
        (Backoff, {"max_seconds": float("nan")}, "max_seconds: must be ≥ 0, got nan"),
        (Retry, {"max_attempts": 0}, "max_attempts: must be ≥ 1, got 0"),
        (
            NodeOptions,
            {"type": "x", "id": "1st", "timeout_seconds": 0},
            "timeout_seconds: must be > 0, got 0; id: must be letters, digits and underscores, not starting with a digit; got '1st'",
        ),
        (Workflow, {"nodes": ()}, "nodes: must have at least one node"),
        (
            FailurePolicy,
            {"max_failures": -1, "max_failure_ratio": 2},
            "max_failures: must be ≥ 0, got -1; max_failure_ratio: must be between 0 and 1, got 2",
        ),
        (
            Run,
            {"parallelism": 0, "item_timeout_seconds": 0, "grace_seconds": -1},
            "parallelism: must be ≥ 1, got 0; item_timeout_seconds: must be > 0, got 0; grace_seconds: must be ≥ 0, got -1",
        ),
        (Run, {"parallelism": 4, "max_open_items": 3}, "max_open_items: must be ≥ parallelism (4), got 3"),
    ],
)
def test_values_that_make_no_sense_are_refused_all_at_once(kind: Callable[..., Any], values: dict[str, Any], message: str) -> None:
    """A job that cannot work is refused where it is written down, with each wrong field and what it may be."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        kind(**values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Sample, {"n": 0}),
        (Sample, {"fraction": 1}),
        (CsvFormat, {"delimiter": "\t", "quote": None}),
        (Dataset, {"path": "x", "limit": 0}),
        (Backoff, {"initial_seconds": 0, "max_seconds": 0, "multiplier": 1}),
        (FailurePolicy, {"max_failures": 0, "max_failure_ratio": 0, "min_items": 0}),
        (Run, {"parallelism": 1, "max_open_items": 1, "item_timeout_seconds": None, "max_throttled_seconds": 0, "grace_seconds": 0}),
    ],
)
def test_limits_themselves_are_allowed(kind: Callable[..., Any], values: dict[str, Any]) -> None:
    """The smallest values, which people use to switch something off, are not mistakes."""
    kind(**values)


def test_refused_fields_carry_their_paths() -> None:
    """The job file finds the line of each wrong field by its path, so every check yields one."""
    with pytest.raises(InvalidFields) as caught:
        refuse(at_least(1, a=0, b=None, c=1), above(0, d=0), ratio(e=-0.1, f=1))
    assert [path for path, _ in caught.value.problems] == [("a",), ("d",), ("e",)]


@given(st.text(max_size=4) | st.from_regex(r"[A-Za-z_0-9]{1,6}", fullmatch=True))
@example("a\n")
@example("é")
@example("")
def test_node_ids_are_plain_names(name: str) -> None:
    """Ids stand in references, so only what every template language reads as one name will do."""
    try:
        NodeOptions(type="x", id=name)
        accepted = True
    except InvalidFields:
        accepted = False
    assert accepted == (name.isascii() and name.isidentifier())
