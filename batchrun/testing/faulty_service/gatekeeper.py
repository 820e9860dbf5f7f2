"""Keeps what the decision about a request needs: windows, how many are in service, and how many there were."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase

from batchrun.testing.faulty_service.book import Call
from batchrun.testing.faulty_service.chat import rate_headers, request_tokens
from batchrun.testing.faulty_service.faults import Asked, Faults, Verdict, judge


class Gatekeeper:
    """Judges calls by the faults that are set; a window slides: it holds what was let in within the last `window_seconds`."""

    def __init__(self, faults: Faults) -> None:
        self._lock = threading.Lock()
        self.set(faults)

    def set(self, faults: Faults) -> None:
        """Judge by these faults from now on, with windows and clock anew."""
        with self._lock:
            self.faults = faults
            self._began = time.monotonic()
            self._in_service = 0
            self._all_calls = 0
            self._let_in: deque[tuple[float, int]] = deque()
            self._tokens = 0

    @contextmanager
    def admitted(self, call: Call) -> Iterator[Verdict]:
        """What becomes of a call, which is in service while this is entered."""
        with self._lock:
            verdict = self._judged(call)
            began = self._began
            is_served = not (verdict.fault in {"status", "quota"} and verdict.status == 429)
            self._in_service += is_served
        try:
            yield verdict
        finally:
            with self._lock:
                self._in_service -= is_served and began == self._began

    def limits(self, call: Call) -> dict[str, str]:
        """The rate-limit headers an answer carries; none without limits."""
        with self._lock:
            faults, headers = self.faults, dict[str, str]()
            self._slide()
            reset_seconds = self._let_in[0][0] + faults.window_seconds - self._now() if self._let_in else 0.0
            if faults.requests_per_minute is not None:
                headers |= rate_headers("requests", faults.per_window(faults.requests_per_minute), len(self._let_in), reset_seconds)
            if faults.tokens_per_minute is not None and request_tokens(call.json):
                headers |= rate_headers("tokens", faults.per_window(faults.tokens_per_minute), self._tokens, reset_seconds)
        return headers

    def _judged(self, call: Call) -> Verdict:
        faults = self.faults
        if not fnmatchcase(call.path, faults.paths):
            return Verdict()
        self._slide()
        self._all_calls += 1
        asked = Asked(
            seconds=self._now(), item=call.item, item_calls=call.number, all_calls=self._all_calls,
            in_service=self._in_service + 1, in_window=len(self._let_in) + 1,
        )  # fmt: skip
        verdict = judge(faults, asked)
        tokens = request_tokens(call.json) if faults.tokens_per_minute is not None else 0
        if tokens and verdict.fault == "none" and self._tokens + tokens > faults.per_window(faults.tokens_per_minute or 0):
            verdict = Verdict(fault="status", status=429, reason="too many tokens in this window")
        if verdict.status != 429:
            self._let_in.append((asked.seconds, tokens))
            self._tokens += tokens
        return verdict

    def _slide(self) -> None:
        while self._let_in and self._let_in[0][0] + self.faults.window_seconds <= self._now():
            self._tokens -= self._let_in.popleft()[1]

    def _now(self) -> float:
        return time.monotonic() - self._began
