"""How long to wait before the next attempt."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from batchrun.core.policies import Backoff
from batchrun.flow.backoff import backoff_seconds

backoffs = st.builds(
    Backoff,
    initial_seconds=st.floats(0, 1e6),
    max_seconds=st.floats(0, 1e6),
    multiplier=st.floats(1, 1e3),
)


@given(backoffs, st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
@example(Backoff(initial_seconds=0, max_seconds=30), 10**6, 0.9)
def test_waits_stay_between_zero_and_a_growing_limit(backoff: Backoff, failures: int, chance: float) -> None:
    """Full jitter: nobody waits longer than the limit, which grows to the largest one and no further."""
    wait, later = backoff_seconds(backoff, failures, chance), backoff_seconds(backoff, failures + 1, chance)
    assert 0 <= wait <= backoff.max_seconds
    assert wait <= later
    if failures == 1:
        assert wait <= backoff.initial_seconds
    if backoff.initial_seconds == 0:
        assert wait == 0


@given(backoffs, st.integers(1, 10**6))
def test_jitter_is_never_lost_at_the_limit(backoff: Backoff, failures: int) -> None:
    """Callers that failed together for a long time still come back one by one."""
    limit = backoff_seconds(backoff, failures, 1.0)
    assert [backoff_seconds(backoff, failures, chance) for chance in (0.0, 0.25, 0.5)] == [0.0, 0.25 * limit, 0.5 * limit]


def test_limits_grow_by_the_multiplier() -> None:
    """The numbers of the job file mean what they say."""
    backoff = Backoff(initial_seconds=0.5, max_seconds=30, multiplier=2)
    assert [backoff_seconds(backoff, failures, 1.0) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
