"""Running code of users outside of a node call: constructors, setup, pickling. What it raises is told, whatever it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Attempted(NamedTuple, Generic[T]):
    """What became of it: a value, or what was raised."""

    value: T | None = None
    error: BaseException | None = None


def attempted(call: Callable[[], T]) -> Attempted[T]:
    """Make a call. Only a `KeyboardInterrupt` passes through: it may be meant for the program."""
    try:
        return Attempted(call())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, and panics of extensions
        return Attempted(error=error)


async def attempted_async(call: Awaitable[T]) -> Attempted[T]:
    """Await a call. What ends the program or cancels the task passes through."""
    try:
        return Attempted(await call)
    except (Exception, SystemExit) as error:  # whatever code of users raises
        return Attempted(error=error)
