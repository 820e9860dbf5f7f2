"""What a service saw: every call, when it came and how it was answered."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

_KEPT_BYTES = 1 << 20  # a longer body is not kept


@dataclass(slots=True, kw_only=True)
class Call:
    """One request.

    Attributes:
        method, path, query: as asked; the query undecoded.
        item: which item it belongs to; `number` counts the requests of this item from 1.
        headers: names in lower case.
        body: as it came; empty when it was a form with files or longer than 1 MiB.
        status: what was answered; 0: nothing, the connection broke.
        started_seconds, ended_seconds: since the service came up; the end is null while it is not answered.
    """

    method: str
    path: str
    query: str
    item: str
    number: int
    headers: Mapping[str, str]
    body: bytes
    started_seconds: float
    status: int = 0
    ended_seconds: float | None = None

    @property
    def json(self) -> Any:
        """The body read as JSON; null when it is none."""
        return parsed(self.body)


@dataclass(frozen=True, slots=True)
class Seen:
    """Calls a service saw, in order of arrival."""

    calls: tuple[Call, ...]

    @property
    def count(self) -> int:
        """How many calls came."""
        return len(self.calls)

    @property
    def by_item(self) -> Counter[str]:
        """How many calls each item made."""
        return Counter(call.item for call in self.calls)

    @property
    def by_status(self) -> Counter[int]:
        """How often each status was answered; 0: no answer."""
        return Counter(call.status for call in self.calls if call.ended_seconds is not None)

    @property
    def open_calls(self) -> int:
        """How many calls are not answered yet."""
        return sum(call.ended_seconds is None for call in self.calls)

    @property
    def most_at_once(self) -> int:
        """The most calls that were open at once."""
        turns = [(call.started_seconds, 1) for call in self.calls]
        turns += [(call.ended_seconds, -1) for call in self.calls if call.ended_seconds is not None]
        most = now = 0
        for _, step in sorted(turns):  # an end sorts before a start of the same instant
            now += step
            most = max(most, now)
        return most

    def most_within(self, seconds: float) -> int:
        """The most calls that came within so many seconds."""
        starts = [call.started_seconds for call in self.calls]
        most = first = 0
        for last, start in enumerate(starts):
            while start - starts[first] >= seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def as_json(self) -> dict[str, Any]:
        """Counts in words that JSON knows."""
        return {
            "count": self.count,
            "open_calls": self.open_calls,
            "most_at_once": self.most_at_once,
            "by_item": self.by_item,
            "by_status": {str(status): count for status, count in self.by_status.items()},
        }


class Book:
    """Writes down calls; read from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._numbers: Counter[str] = Counter()

    def open(self, call: Call) -> Call:
        """Write a call down and number it among those of its item."""
        with self._lock:
            self._numbers[call.item] += 1
            call.number = self._numbers[call.item]
            call.body = call.body if len(call.body) <= _KEPT_BYTES else b""
            self._calls.append(call)
        return call

    def seen(self, paths: str = "*") -> Seen:
        """The calls whose path matches, with `*` and `?`."""
        with self._lock:
            return Seen(tuple(call for call in self._calls if fnmatchcase(call.path, paths)))

    def forget(self) -> None:
        """Start anew, counting items from 1 again."""
        with self._lock:
            self._calls.clear()
            self._numbers.clear()


def parsed(text: bytes | str) -> Any:
    """The text as JSON, or null."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def found(value: Any, name: str) -> Any:
    """The first field of this name at any depth, JSON inside of texts included; null when there is none."""
    if isinstance(value, str) and value[:1] in {"{", "["}:
        value = parsed(value)
    if isinstance(value, Mapping):
        if value.get(name) is not None:
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        return next((inner for inner in (found(part, name) for part in value) if inner is not None), None)
    return None
