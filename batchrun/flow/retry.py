"""What to do about one failed node call: the only retry mechanism there is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from batchrun.core.errors import NodeError, QuotaExhausted
from batchrun.core.policies import Match, Retry
from batchrun.flow.backoff import backoff_seconds

Action: TypeAlias = Literal["retry", "throttle", "fail", "stop"]

# Calls that reached a service out of order: if each of them breaks it, the item must end some time. Those that hang take long.
_MOST_FREE_CALLS = {"unreachable": math.inf, "broken": 20, "silent": 5}
_STEP = re.compile(r"\[(-?\d+)\]|([^.\[\]]+)")
_NEVER_RETRIED = (TypeError, AttributeError, NameError, ImportError, AssertionError)


class Decision(NamedTuple):
    """What happens to the item: try again after `wait_seconds`, fail, or stop the execution."""

    action: Action
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The policies a node call is judged by: the node's own rules first, then those of the run."""

    node: Retry | None
    run: Retry
    max_throttled_seconds: float | None = None

    def decide(self, error: BaseException, calls: CallHistory, chance: Callable[[], float]) -> Decision:
        """What to do about `error`.

        Args:
            error: what the call raised.
            calls: the calls of this node for this item so far, the failed one included.
            chance: draws a random number from 0 up to 1.
        """
        limits = self.node or self.run
        action = self._action(error)
        if action == "retry" and _is_free(error, calls):
            return Decision("throttle")  # the service is called again when it is back, and there the calls wait for that
        if action == "throttle":
            wait = _throttle_seconds(error, limits, calls.throttled + 1, chance)
            over = self.max_throttled_seconds is not None and calls.throttled_seconds + wait > self.max_throttled_seconds
            return Decision("fail") if over else Decision("throttle", wait)
        if action == "retry":
            if calls.attempts >= limits.max_attempts:
                return Decision("fail")
            return Decision("retry", _asked_seconds(error) + backoff_seconds(limits.backoff, calls.attempts, chance()))
        return Decision(action)

    def _action(self, error: BaseException) -> Action:
        if isinstance(error, NodeError) and error.stops_execution:
            return "stop"
        if self.node is not None:
            for rule in self.node.rules:
                if matches(rule.match, error):
                    return rule.action
        for rule in self.run.rules:
            if matches(rule.match, error):
                # The service may have done the work already: a rule for all nodes must not do it twice.
                return "fail" if rule.action in ("retry", "throttle") and getattr(error, "ambiguous", False) else rule.action
        if isinstance(error, QuotaExhausted):
            return "stop"
        if is_throttling(error):
            return "throttle"
        return "retry" if is_retryable(error) else "fail"


class CallHistory(NamedTuple):
    """The calls of one node for one item.

    Attributes:
        attempts: calls that were not throttled, the one being judged included.
        throttled: calls that were throttled before.
        throttled_seconds: time the item spent throttled so far.
    """

    attempts: int
    throttled: int = 0
    throttled_seconds: float = 0.0


def matches(match: Match, error: BaseException) -> bool:
    """Whether all conditions of `match` hold for `error`.

    Error types are compared with the short and the qualified name of every class the error is an instance of.
    """
    if match.http_status is not None and getattr(error, "http_status", None) not in match.http_status:
        return False
    if match.message is not None and not re.search(match.message, str(error)):
        return False
    if match.body is not None and not _says(getattr(error, "response_body", None), match.body):
        return False
    if match.error_type is None:
        return True
    wanted = {match.error_type} if isinstance(match.error_type, str) else set(match.error_type)
    return any(cls.__name__ in wanted or f"{cls.__module__}.{cls.__qualname__}" in wanted for cls in type(error).__mro__)


def _says(body: bytes | None, wanted: Mapping[str, Any]) -> bool:
    """Whether the body of an answer is JSON that holds these values at these paths."""
    try:
        said = json.loads(body or b"")
    except (ValueError, RecursionError):
        return False
    return all(_at(said, path) in (values if isinstance(values, list | tuple) else (values,)) for path, values in wanted.items())


def _at(value: Any, path: str) -> Any:
    """What is at a path such as `errors[0].code`; null when there is nothing."""
    for index, name in _STEP.findall(path):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and index and -len(value) <= int(index) < len(value):
            value = value[int(index)]
        else:
            return None
    return value


def is_throttling(error: BaseException) -> bool:
    """Whether the service asked to be left alone: 429, or 503 with Retry-After."""
    status = getattr(error, "http_status", None)
    return status == 429 or (status == 503 and getattr(error, "retry_after_seconds", None) is not None)


def is_retryable(error: BaseException) -> bool:
    """Whether the same call may succeed when tried again.

    An error says so itself with a `retryable` attribute; programming and validation errors never are; others are.
    """
    if getattr(error, "ambiguous", False):
        return False
    retryable = getattr(error, "retryable", None)
    if isinstance(retryable, bool):
        return retryable
    if isinstance(error, _NEVER_RETRIED) or not isinstance(error, Exception):
        return False
    return not any(cls.__name__ == "ValidationError" for cls in type(error).__mro__)


def _is_free(error: BaseException, calls: CallHistory) -> bool:
    """Whether a call uses up no attempt because its service is out of order."""
    outage = error.outage if isinstance(error, NodeError) else None
    return outage is not None and calls.throttled < _MOST_FREE_CALLS[outage]


def _throttle_seconds(error: BaseException, limits: Retry, throttled: int, chance: Callable[[], float]) -> float:
    # Jitter comes on top of what the service asked for: without it, all callers would return at the same instant.
    return _asked_seconds(error) + backoff_seconds(limits.backoff, throttled, chance())


def _asked_seconds(error: BaseException) -> float:
    """How long the service asked to be left alone. Errors of users may carry anything under that name."""
    asked = getattr(error, "retry_after_seconds", None)
    return float(asked) if isinstance(asked, int | float) and 0 < asked < math.inf else 0.0
