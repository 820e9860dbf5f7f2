"""When so much fails that going on makes no sense."""

from __future__ import annotations

import pytest

from batchrun.core.policies import FailurePolicy
from batchrun.flow.failure import policy_breach

RATIO = FailurePolicy(max_failure_ratio=0.05, min_items=100)


@pytest.mark.parametrize(
    ("policy", "failed", "completed", "at_end", "breach"),
    [
        (FailurePolicy(), 10**6, 0, True, None),
        (FailurePolicy(max_failures=2), 2, 0, False, None),
        (FailurePolicy(max_failures=2), 3, 10, False, "3 items failed, more than max_failures: 2"),
        (FailurePolicy(max_failures=0), 1, 0, False, "1 items failed, more than max_failures: 0"),
        (RATIO, 5, 95, False, None),
        (RATIO, 6, 94, False, "6 of 100 items failed (6.0%), more than max_failure_ratio: 0.05"),
        (RATIO, 99, 0, False, None),
        (RATIO, 99, 0, True, "99 of 99 items failed (100.0%), more than max_failure_ratio: 0.05"),
        (RATIO, 0, 0, True, None),
        (FailurePolicy(max_failure_ratio=0, min_items=0), 0, 10**6, True, None),
        (
            FailurePolicy(max_failure_ratio=0, min_items=0),
            1,
            10**6,
            False,
            "1 of 1000001 items failed (0.0%), more than max_failure_ratio: 0",
        ),
        (FailurePolicy(max_failure_ratio=1), 200, 0, True, None),
    ],
)
def test_the_run_stops_exactly_above_its_limits(
    policy: FailurePolicy, failed: int, completed: int, *, at_end: bool, breach: str | None
) -> None:
    """One failure too many stops the run, the last allowed one does not; a ratio waits for enough items, except at the end."""
    assert policy_breach(policy, failed=failed, completed=completed, at_end=at_end) == breach
