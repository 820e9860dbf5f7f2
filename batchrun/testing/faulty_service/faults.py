"""What goes wrong, and when: the faults of a service, and the pure decision about one request."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict

Fault: TypeAlias = Literal["none", "status", "reset", "hang", "drip", "malformed", "quota"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong. Ratios are shares of the requests, 0 to 1, and exclude one another; seconds count from when the faults were set.

    Attributes:
        latency_seconds: every answer takes at least this long.
        latency_spread_seconds: and up to this much longer, by chance.
        statuses: share of answers by status, as `{429: 0.6, 500: 0.05}`.
        retry_after_seconds: sent as `Retry-After` with 429 and 503; null: no such header.
        retry_after_date: send it as a date instead of seconds.
        requests_per_minute: more are answered 429; counted in windows of `window_seconds`.
        tokens_per_minute: the same for the tokens of chat and embeddings.
        window_seconds: length of a window; a short one keeps trials short (600 per minute are 10 in 1 second).
        capacity: more requests at once are answered 429, and nothing says how many it takes.
        resets: share of connections broken off without an answer.
        hangs: share of requests that are never answered.
        drips: share of answers sent in small pieces, `drip_seconds` apart.
        drip_seconds: pause after each piece of such an answer; there are up to 64 pieces.
        malformed: share of answers whose JSON is cut in the middle.
        quota: share of answers that say `insufficient_quota` (status 429).
        quota_after: after so many requests, all answers say so.
        outages: from second A to second B nothing works, as `((10, 40),)`.
        outage_answer: what an outage looks like: a status, `reset` or `hang`.
        spare_after: only the first so many requests of each item meet faults; null: all.
        paths: only paths that match, with `*` and `?`.
        seed: decides which requests meet faults of a share: by item and number of the request, so whatever their order.

    Raises:
        ValueError: shares that are negative or together more than 1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    latency_seconds: float = 0.0
    latency_spread_seconds: float = 0.0
    statuses: Mapping[int, float] = field(default_factory=dict)
    retry_after_seconds: float | None = None
    retry_after_date: bool = False
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    window_seconds: float = 60.0
    capacity: int | None = None
    resets: float = 0.0
    hangs: float = 0.0
    drips: float = 0.0
    drip_seconds: float = 0.05
    malformed: float = 0.0
    quota: float = 0.0
    quota_after: int | None = None
    outages: tuple[tuple[float, float], ...] = ()
    outage_answer: int | Literal["reset", "hang"] = 503
    spare_after: int | None = None
    paths: str = "*"
    seed: int = 0

    def __post_init__(self) -> None:
        shares = {"resets": self.resets, "hangs": self.hangs, "drips": self.drips, "malformed": self.malformed, "quota": self.quota}
        shares |= {f"statuses[{status}]": share for status, share in self.statuses.items()}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name}: a share of the requests is 0 to 1, got {share:g}")
        if sum(shares.values()) > 1.000_001:
            raise ValueError(f"shares exclude one another and can be 1 together at most, got {sum(shares.values()):g}: {shares}")
        if self.window_seconds <= 0:
            raise ValueError(f"window_seconds: must be more than 0, got {self.window_seconds:g}")

    def per_window(self, per_minute: float) -> float:
        """How many of so many per minute fit one window."""
        return per_minute * self.window_seconds / 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the decision about a request needs to know: times in seconds since the faults were set, counts with this request."""

    seconds: float
    item: str
    item_calls: int
    all_calls: int
    in_service: int
    in_window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a request and why; `latency_seconds` passes before it is answered."""

    fault: Fault = "none"
    status: int = 200
    reason: str = ""
    latency_seconds: float = 0.0


def judge(faults: Faults, asked: Asked) -> Verdict:
    """Decide what becomes of a request.

    Example:
        >>> asked = Asked(seconds=12, item="a", item_calls=1, all_calls=1, in_service=1, in_window=1)
        >>> judge(Faults(outages=((10, 40),)), asked).status
        503
    """
    if faults.spare_after is not None and asked.item_calls > faults.spare_after:
        return Verdict(latency_seconds=faults.latency_seconds)
    if any(start <= asked.seconds < end for start, end in faults.outages):
        return _outage(faults)
    if faults.requests_per_minute is not None and asked.in_window > faults.per_window(faults.requests_per_minute):
        return Verdict(fault="status", status=429, reason="too many requests in this window")
    if faults.capacity is not None and asked.in_service > faults.capacity:
        return Verdict(fault="status", status=429, reason="too many requests at once")
    if faults.quota_after is not None and asked.all_calls > faults.quota_after:
        return Verdict(fault="quota", status=429)
    return _by_chance(faults, asked)


def _outage(faults: Faults) -> Verdict:
    if isinstance(faults.outage_answer, int):
        return Verdict(fault="status", status=faults.outage_answer, reason="outage")
    return Verdict(fault=faults.outage_answer, status=0, reason="outage")


def _by_chance(faults: Faults, asked: Asked) -> Verdict:
    chance = random.Random(f"{faults.seed}/{asked.item}/{asked.item_calls}")  # noqa: S311 - no secret
    drawn = chance.random()
    latency_seconds = faults.latency_seconds + chance.random() * faults.latency_spread_seconds
    shares: list[tuple[float, Fault, int]] = [(share, "status", status) for status, share in faults.statuses.items()]
    shares += [(faults.resets, "reset", 0), (faults.hangs, "hang", 0), (faults.drips, "drip", 200)]
    shares += [(faults.malformed, "malformed", 200), (faults.quota, "quota", 429)]
    for share, fault, status in shares:
        if drawn < share:
            return Verdict(fault=fault, status=status, reason="by chance", latency_seconds=latency_seconds)
        drawn -= share
    return Verdict(latency_seconds=latency_seconds)


def quota_error() -> dict[str, Any]:
    """What OpenAI says when there is no money left: a 429 that no waiting heals."""
    message = "You exceeded your current quota, please check your plan and billing details."
    return {"error": {"message": message, "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}
