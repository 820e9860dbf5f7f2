"""When so much fails that going on makes no sense."""

from __future__ import annotations

from batchrun.core.policies import FailurePolicy


def policy_breach(policy: FailurePolicy, *, failed: int, completed: int, at_end: bool = False) -> str | None:
    """Why the execution must stop, or None.

    Args:
        policy: the limits; null limits are never breached.
        failed: items that failed.
        completed: items that completed; skipped and reused items do not count.
        at_end: the ratio is then judged however few items there are.

    Example:
        >>> policy_breach(FailurePolicy(max_failures=2), failed=3, completed=10)
        '3 items failed, more than max_failures: 2'
    """
    if policy.max_failures is not None and failed > policy.max_failures:
        return f"{failed} items failed, more than max_failures: {policy.max_failures}"
    judged = failed + completed
    if policy.max_failure_ratio is None or not judged or (judged < policy.min_items and not at_end):
        return None
    if failed / judged > policy.max_failure_ratio:
        return f"{failed} of {judged} items failed ({failed / judged:.1%}), more than max_failure_ratio: {policy.max_failure_ratio:g}"
    return None
