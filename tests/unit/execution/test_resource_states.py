"""What is told of services: metrics, and lines for people."""

from __future__ import annotations

from itertools import pairwise

from batchrun.core.executions import Progress, ResourceState
from batchrun.execution.progress import parking_notes
from batchrun.telemetry.prometheus import Figures, exposition

WELL = ResourceState(
    in_flight=3,
    queued=5,
    limit=None,
    requests_per_minute=90.0,
    tokens_per_minute=None,
    calls=40,
    tokens=1_200,
    throttled=7,
    parked_at=None,
    parked_why=None,
    opened=2,
    parked_seconds=12.5,
)
PARKED = WELL | ResourceState(in_flight=1, limit=8, parked_at="2026-11-01T09:30:00+00:00", parked_why="GET / answered 503")  # type: ignore[typeddict-item]


def test_each_service_has_its_figures() -> None:
    """An alert can be written for a parked service; no limit is infinite, not zero."""
    text = exposition(Figures("j", Progress(resources={"a": WELL, "b": PARKED}), {}, []))
    for line in (
        'batchrun_resource_in_flight{job="j",resource="a"} 3',
        'batchrun_resource_queued{job="j",resource="a"} 5',
        'batchrun_resource_limit{job="j",resource="a"} +Inf',
        'batchrun_resource_limit{job="j",resource="b"} 8',
        'batchrun_resource_parked{job="j",resource="a"} 0',
        'batchrun_resource_parked{job="j",resource="b"} 1',
        'batchrun_resource_calls_total{job="j",resource="a"} 40',
        'batchrun_resource_throttled_total{job="j",resource="a"} 7',
        'batchrun_resource_opened_total{job="j",resource="a"} 2',
        'batchrun_resource_tokens_total{job="j",resource="a"} 1200',
    ):
        assert f"\n{line}\n" in text


def test_people_are_told_once_that_a_service_is_parked_and_once_that_it_is_back() -> None:
    """Not with each look at it."""
    looks = [{}, {"a": WELL}, {"a": PARKED}, {"a": PARKED}, {"a": WELL}, {"a": WELL}]
    assert [[*parking_notes(before, now)] for before, now in pairwise(looks)] == [
        [],
        ["resource a is parked, one call at a time tries it: GET / answered 503"],
        [],
        ["resource a answers again, after 12.5 s parked in all"],
        [],
    ]
