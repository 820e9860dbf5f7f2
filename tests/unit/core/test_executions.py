"""Counters and stops, as they are told to people."""

from __future__ import annotations

from batchrun.core.executions import Progress, Stop


def test_progress_counts_what_is_done() -> None:
    """Cancelled and waiting items are not processed: a resume runs them."""
    progress = Progress(
        total_items=20, completed_items=4, failed_items=1, skipped_items=3, cancelled_items=5, waiting_items=2, elapsed_seconds=4
    )
    assert (progress.processed_items, progress.items_per_second, progress.remaining_seconds) == (8, 2.0, 6.0)
    assert Progress(total_items=20, elapsed_seconds=4).remaining_seconds is None
    assert Progress().items_per_second == 0.0


def test_only_the_failure_policy_fails_an_execution() -> None:
    """Everything else that stops one can be resumed without changing the job."""
    assert Stop("failure_policy", "too much").status == "failed"
    assert Stop("signal", "interrupted").status == Stop("rule", "quota").status == "paused"
