"""One run of a Python workflow for an item, and what its function can ask for meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import random as random_numbers
import uuid as uuids
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count
from types import CoroutineType
from typing import Any, Protocol, TypeVar

from batchrun.core.errors import InvalidValue
from batchrun.workflows.parts import Parts
from batchrun.workflows.plan import Plan

T = TypeVar("T")

_NEEDS_ASYNC = "{} needs a workflow that is an async function: write async def, and await its nodes"


class Called(Protocol):
    """A function as the workflow sees it that calls it."""

    function: Callable[..., Any]
    name: str
    parameters: tuple[str, ...]


class Flow:
    """One run of an async Python workflow for an item.

    Args:
        parts: makes its calls.
        plan_of: gives the plan of what is called.
        pause_plan: gives the plan of a pause, by its name.
    """

    def __init__(self, parts: Parts, plan_of: Callable[[Any], Plan], pause_plan: Callable[[str], Plan]) -> None:
        self.parts = parts
        self._plan_of = plan_of
        self._pause_plan = pause_plan
        self._counts: dict[str, count[int]] = {}

    def key(self, name: str) -> str:
        """Names a call: the same each time the function runs for the item, as long as it does the same. Never twice, from any thread."""
        place = f"{_branch.get()}{name}"
        return f"{place}:{next(self._counts.setdefault(place, count()))}"

    def call(self, called: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make a call; what it gives is to be awaited."""
        return self._awaited(called, args, kwargs)

    async def pause(self, name: str, output: Any) -> Any:
        """Wait for a person."""
        return await self.parts.run(self._pause_plan(name), {"output": output}, self.key(name))

    async def _awaited(self, called: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        # The key is drawn when the call begins, in the branch that awaits it.
        return await self.parts.run(self._plan_of(called), _arguments(called, args, kwargs), self.key(called.name))


class PlainFlow(Flow):
    """The same for a workflow that is not async."""

    def call(self, called: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Make a call."""
        return self.parts.run_now(self._plan_of(called), _arguments(called, args, kwargs), self.key(called.name))


_current: ContextVar[Flow | None] = ContextVar("batchrun_flow", default=None)
_branch: ContextVar[str] = ContextVar("batchrun_branch", default="")


def current_flow() -> Flow | None:
    """The Python workflow whose function is running; null: none."""
    return _current.get()


async def running(flow: Flow | None, call: Callable[[], Awaitable[T]]) -> T:
    """Await a call as part of a Python workflow, or of none."""
    current, branch = _current.set(flow), _branch.set("")
    try:
        return await call()
    finally:
        _current.reset(current)
        _branch.reset(branch)


def running_here(flow: Flow | None, call: Callable[[], T]) -> T:
    """The same for a call that is not async, in a lane thread."""
    current = _current.set(flow)
    try:
        return call()
    finally:
        _current.reset(current)


async def gather(*calls: Awaitable[Any], limit: int | None = None) -> list[Any]:
    """Await calls at the same time, and return what each gives, in their order. The first failure ends the others.

    In a Python workflow, use this rather than `asyncio.gather`: it tells the calls apart when the item goes on later.

    Args:
        calls: of nodes, or coroutines that make some.
        limit: the most at work at once; null: all of them.

    Raises:
        InvalidValue: the workflow is no async function, or `limit` is below 1.

    Example:
        >>> async def double(number: int) -> int:
        ...     return 2 * number
        >>> asyncio.run(gather(double(1), double(2)))
        [2, 4]
    """
    flow, most = _async_flow("batchrun.gather"), max(len(calls), 1) if limit is None else limit
    if most < 1:
        _close_unbegun(calls)
        raise InvalidValue(f"limit must be ≥ 1, got {limit}")
    if flow is None:
        free = asyncio.Semaphore(most)
        return list(await asyncio.gather(*[_limited(call, free) for call in calls]))
    place = flow.key("gather")

    def branch(number: int, call: Awaitable[Any]) -> Callable[[], Awaitable[Any]]:
        return lambda: _in_branch(f"{place}.{number}-", call)

    try:
        return await flow.parts.together([branch(number, call) for number, call in enumerate(calls)], most)
    finally:
        _close_unbegun(calls)


async def pause(name: str = "approval", *, output: Any = None) -> Any:
    """Park the item as `waiting` until a person approves or rejects it: `batchrun approve`, `batchrun reject`.

    Args:
        name: the id of the node execution: letters, digits and underscores.
        output: what the person is shown.

    Returns:
        What was shown, or what the person has put in its place.

    Raises:
        Rejected: the person has said no.
        InvalidValue: no Python workflow is running, or one that is no async function.
    """
    flow = _async_flow("batchrun.pause")
    if flow is None:
        raise InvalidValue("batchrun.pause waits for a person only in a function with @batchrun.workflow that batchrun runs")
    return await flow.pause(name, output)


def now() -> datetime:
    """The time, in UTC. In a Python workflow, the same one each time its function runs for the item."""
    return datetime.fromisoformat(_recorded("now", lambda: datetime.now(UTC).isoformat()))


def uuid() -> uuids.UUID:
    """A random UUID; as in `now`."""
    return uuids.UUID(_recorded("uuid", lambda: str(uuids.uuid4())))


def random() -> float:
    """A random number from 0 up to but not including 1; as in `now`."""
    return float(_recorded("random", random_numbers.random))


def _recorded(name: str, make: Callable[[], T]) -> T:
    flow = _current.get()
    return make() if flow is None else flow.parts.recorded(flow.key(name), name, make)


def _async_flow(asker: str) -> Flow | None:
    flow = _current.get()
    if isinstance(flow, PlainFlow):
        raise InvalidValue(_NEEDS_ASYNC.format(asker))
    return flow


def _close_unbegun(calls: Iterable[Awaitable[Any]]) -> None:
    for call in calls:
        if inspect.iscoroutine(call) and inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
            call.close()


async def _limited(call: Awaitable[Any], free: asyncio.Semaphore) -> Any:
    async with free:
        return await call


async def _in_branch(place: str, call: Awaitable[Any]) -> Any:
    _branch.set(place)  # each branch is a task, which has a context of its own
    return await call


def _arguments(called: Called, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a function is called with, by name.

    Raises:
        TypeError: it does not take these arguments.
        InvalidValue: one of them is a call that was not awaited.
    """
    names = called.parameters
    data = dict(zip(names, args, strict=False))
    if len(args) > len(names) or (kwargs and not (data.keys().isdisjoint(kwargs) and {*kwargs} <= {*names})):
        inspect.signature(called.function).bind(*args, **kwargs)  # says what is wrong
    if kwargs:
        data.update(kwargs)
    for value in data.values():
        if type(value) is CoroutineType:
            value.close()
            name = next(name for name, each in data.items() if each is value)
            raise InvalidValue(f"argument {name!r} of {called.name} is a call that was not awaited: write await before it")
    return data
