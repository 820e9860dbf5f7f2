"""The policies of a job: what is tried again, how long to wait, and when so much fails that the run stops."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from batchrun.core.checks import above, at_least, problem, ratio, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which errors a retry rule is for; all given conditions must hold."""

    http_status: tuple[int, ...] | None = None
    """Status codes."""
    error_type: str | tuple[str, ...] | None = None
    """Short or qualified names of error classes; a base class matches its subclasses."""
    message: str | None = None
    """A regular expression that is looked for in the error's message."""
    body: dict[str, Any] | None = None
    """Values by their paths in the JSON body of the answer: `{error.code: insufficient_quota}`. A list means any of its values."""

    def __post_init__(self) -> None:
        if self.http_status is None and self.error_type is None and self.message is None and not self.body:
            raise ValueError("give at least one condition: http_status, error_type, message or body")
        refuse(problem("message", _pattern_problem(self.message)), _status_problems(self.http_status or ()))


def _status_problems(statuses: tuple[int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for number, status in enumerate(statuses):
        if not 100 <= status <= 999:
            yield ("http_status", number), f"must be a status code of three digits, got {status}"


def _pattern_problem(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        return f"is not a regular expression: {error}"
    return None


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
    """Cost that nodes report, in whatever unit they report it; of `chat` nodes, in the unit of `prices`."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When a service counts as out of order: its calls are then parked, and one at a time tries it until it answers."""

    failures: int = 5
    """Calls in a row that must fail before: no connection, a broken one, a status of 500 and above, or no answer before the deadline."""
    probe_initial_seconds: float = 0.5
    """How long it is left alone before the first call tries it; twice as long after each one that fails."""
    probe_max_seconds: float = 4.0
    """The longest it is left alone."""
    max_parked_seconds: float | None = None
    """How long calls may be parked before the execution pauses; null: for ever."""

    def __post_init__(self) -> None:
        refuse(
            at_least(1, failures=self.failures),
            above(0, probe_initial_seconds=self.probe_initial_seconds, probe_max_seconds=self.probe_max_seconds),
            at_least(0, max_parked_seconds=self.max_parked_seconds),
        )
