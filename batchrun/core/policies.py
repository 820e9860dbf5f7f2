"""The policies of a job: what is tried again, how long to wait, and when so much fails that the run stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batchrun.core.checks import at_least, ratio, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which errors a retry rule is for; all given conditions must hold."""

    http_status: tuple[int, ...] | None = None
    """Status codes."""
    error_type: str | tuple[str, ...] | None = None
    """Short or qualified names of error classes; a base class matches its subclasses."""

    def __post_init__(self) -> None:
        if self.http_status is None and self.error_type is None:
            raise ValueError("give at least one condition: http_status or error_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """What to do about the errors it matches; the first matching rule decides."""

    match: Match
    """Which errors."""
    action: Literal["retry", "throttle", "fail", "stop"]
    """retry: wait and try again; throttle: the same, using up no attempt; fail: the item fails at once; stop: pause the execution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the next attempt: a random time up to a limit that grows (full jitter)."""

    initial_seconds: float = 0.5
    """Limit before the second attempt."""
    max_seconds: float = 30.0
    """Largest limit."""
    multiplier: float = 2.0
    """What the limit grows by with each attempt."""

    def __post_init__(self) -> None:
        refuse(
            at_least(0, initial_seconds=self.initial_seconds, max_seconds=self.max_seconds),
            at_least(1, multiplier=self.multiplier),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When a failed node call is tried again for its item."""

    max_attempts: int = 3
    """Calls of a node for one item, the first included."""
    backoff: Backoff = Backoff()
    """The wait between attempts."""
    rules: tuple[RetryRule, ...] = ()
    """In order; the first match decides. Errors no rule matches are retried if their class allows it."""

    def __post_init__(self) -> None:
        refuse(at_least(1, max_attempts=self.max_attempts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The most an execution may spend, over all its resumes. Reaching it pauses the execution. Null: no limit."""

    max_calls: int | None = None
    """Calls of nodes, repeated ones included; throttled ones are free."""
    max_tokens: int | None = None
    """Input and output tokens that nodes report."""
    max_cost: float | None = None
    """Cost that nodes report, in whatever unit they report it."""

    def __post_init__(self) -> None:
        refuse(at_least(0, max_calls=self.max_calls, max_tokens=self.max_tokens, max_cost=self.max_cost))


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """When so much fails that going on makes no sense. Null: no limit."""

    max_failures: int | None = None
    """The run stops when more items than this failed."""
    max_failure_ratio: float | None = None
    """The run stops when failed / (completed + failed) is above this."""
    min_items: int = 100
    """Completed and failed items before the ratio is judged; at the end it always is."""

    def __post_init__(self) -> None:
        refuse(at_least(0, max_failures=self.max_failures, min_items=self.min_items), ratio(max_failure_ratio=self.max_failure_ratio))
