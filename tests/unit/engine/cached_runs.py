"""Executions that share a cache, and functions that know what they were called with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from batchrun.core.items import ItemResult
from batchrun.store import Cache
from batchrun.testing.rows import RowRun

N = {"n": "{{ item.n }}"}
ROWS = [{"n": n} for n in range(5)]


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Executions one after another that share a cache."""

    home: Path

    def results(self, row_run: RowRun, rows: list[dict[str, Any]], told: list[str] | None = None) -> list[ItemResult]:
        """The results of one execution; the cache itself has nothing to tell, and nodes only what `told` takes."""
        troubles: list[str] = []
        cache = Cache("triage", troubles.append, self.home)
        notes: list[str] = [] if told is None else told
        try:
            results = anyio.run(replace(row_run, cache=cache, on_note=notes.append).results, rows)
        finally:
            cache.close()
        assert troubles == [] and (told is not None or notes == [])
        return results

    def hits(self, row_run: RowRun, rows: list[dict[str, Any]]) -> list[bool]:
        """Whether the outputs of the first node came from the cache."""
        return [next(record[10] for record in result.nodes if record[0] == 0) for result in self.results(row_run, rows)]


class Counted:
    """A function, sync or async, that knows what it was called with."""

    def __init__(self, body: Callable[[Any], Any] = lambda n: {"n": n}) -> None:
        self._calls: deque[Any] = deque()  # a list would be part of what the function is
        self._body = body

    @property
    def calls(self) -> list[Any]:
        return list(self._calls)

    def function(self, *, is_async: bool) -> Callable[..., Any]:
        def call(n: Any) -> Any:
            self._calls.append(n)
            return self._body(n)

        async def call_async(n: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return call(n)

        return call_async if is_async else call
