"""Work with pauses, written once for those who block and those who await."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar

import anyio
from anyio import to_thread

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

Pauses: TypeAlias = Generator[float, None, Result]
"""Gives the seconds to sleep before it goes on, again and again; returns what it came to."""


class _End(NamedTuple):
    value: Any


def blocking(work: Pauses[Result]) -> Result:
    """Do the work in this thread."""
    while True:
        step = _step(work)
        if isinstance(step, _End):
            result: Result = step.value
            return result
        time.sleep(step)


async def awaiting(work: Pauses[Result]) -> Result:
    """Do the work in worker threads, and sleep without one, so that hundreds can do so at once."""
    while True:
        step = await to_thread.run_sync(_step, work)
        if isinstance(step, _End):
            result: Result = step.value
            return result
        await anyio.sleep(step)


async def in_thread(function: Callable[Parameters, Result], *arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
    """Call a function that blocks in a worker thread."""
    return await to_thread.run_sync(lambda: function(*arguments, **options))


def _step(work: Pauses[Any]) -> float | _End:
    try:
        return next(work)
    except StopIteration as end:  # which no future can hold
        return _End(end.value)
