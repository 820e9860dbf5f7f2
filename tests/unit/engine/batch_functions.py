"""Functions for many items, and nodes that call them, as the tests of batching want them."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from batchrun.core.items import ItemResult
from batchrun.core.job import Batch
from batchrun.nodes.python import PythonNode
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import node

N = {"n": "{{ item.n }}"}
HOURS = 1e7
"""A wait in milliseconds that nothing may depend on."""


def rows(count: int) -> list[dict[str, int]]:
    return [{"n": n} for n in range(count)]


def tens(ns: list[int]) -> list[int]:
    return [n * 10 for n in ns]


def tens_after(seconds: float) -> Callable[[list[int]], Awaitable[list[int]]]:
    async def body(ns: list[int]) -> list[int]:
        await anyio.sleep(seconds)
        return tens(ns)

    return body


class Function:
    """A function for many items that writes down its calls.

    Attributes:
        calls: the items of each call.
        most: the most calls at once.
    """

    def __init__(self, body: Callable[[list[int]], Any] = tens) -> None:
        self.calls: list[list[int]] = []
        self.most = 0
        self._body = body
        self._active = 0
        self._lock = threading.Lock()

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.calls]

    def plain(self, n: list[int]) -> Any:
        self._enter(n)
        try:
            return self._body(n)
        finally:
            self._leave()

    async def waiting(self, n: list[int]) -> Any:
        self._enter(n)
        try:
            value = self._body(n)
            return await value if hasattr(value, "__await__") else value
        finally:
            self._leave()

    def _enter(self, n: list[int]) -> None:
        with self._lock:
            self.calls.append(n[:])
            self._active += 1
            self.most = max(self.most, self._active)

    def _leave(self) -> None:
        with self._lock:
            self._active -= 1


def batched(call: Any, max_items: int = 8, *, max_wait_ms: float = HOURS, isolate: bool = True, **options: Any) -> PythonNode:
    batch = Batch(max_items=max_items, max_wait_ms=max_wait_ms, isolate=isolate)
    return node(options.pop("id", "many"), call, **{"inputs": N, "batch": batch, **options})


def statuses(results: list[ItemResult]) -> list[str]:
    return [result.status for result in results]


def errors(results: list[ItemResult]) -> list[str | None]:
    return [None if result.error is None else f"{result.error.type}: {result.error.message}" for result in results]


def timed(row_run: RowRun, data: list[dict[str, int]]) -> tuple[float, list[ItemResult]]:
    """How many virtual seconds it takes to run the rows, and their results."""

    async def main() -> tuple[float, list[ItemResult]]:
        results = await row_run.results(data)
        return anyio.current_time(), results

    return run_virtually(main)
