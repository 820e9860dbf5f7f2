"""Where the function of a node is called: on the event loop, in threads, or in processes of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from batchrun.core.errors import InvalidValue
from batchrun.nodes.classes import Instance, is_node_class
from batchrun.nodes.crossing import packed, packed_call
from batchrun.nodes.worker_main import Start
from batchrun.nodes.workers import WorkerPool, usable_cores
from batchrun.workflows.scope import Scope

Placement: TypeAlias = Literal["auto", "loop", "thread", "process"]
Call: TypeAlias = Callable[[Scope], Any]

_is_isolating: ContextVar[bool] = ContextVar("is_isolating", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A function in its place.

    Attributes:
        function: what is given the arguments of a call.
        made: makes the call of the node from the one that gives an item's arguments to `function`.
        waits: whether that is a coroutine function.
        queues: whether calls wait for their turn.
        lifespan: entered before the first call, left after the last.
    """

    function: Callable[..., Any]
    made: Callable[[Call], Call]
    waits: bool
    queues: bool = False
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What a node calls.

    Attributes:
        node_id: of the node.
        target: a function, or a class whose instance is called.
        name: `module:name` of it, if it was given so.
        is_async: whether a call gives a coroutine.
        init: what an instance of the class is made with.
        stays: why no other process can call it; null: one may.
    """

    node_id: str
    target: Callable[..., Any]
    name: str | None
    is_async: bool
    init: Mapping[str, Any]
    stays: str | None = None


@contextmanager
def isolating(is_isolating: bool = True) -> Iterator[None]:  # noqa: FBT001, FBT002 - what it is about
    """Compile nodes so that functions which would run in threads run in processes, where a deadline ends them whatever they do.

    A call of a function that no other process can have fails as `InvalidValue`.

    Args:
        is_isolating: whether it is to be so.
    """
    token = _is_isolating.set(is_isolating)
    try:
        yield
    finally:
        _is_isolating.reset(token)


def is_isolating() -> bool:
    """Whether nodes are compiled like this now."""
    return _is_isolating.get()


def placed(called: Called, placement: Placement, most_workers: int | None) -> Placed:
    """Put a function in its place.

    Args:
        called: the function.
        placement: where it is called.
        most_workers: the most processes at once; null: as many as there are cores.

    Raises:
        InvalidValue: another process cannot have the function.
    """
    if placement == "process":
        return _in_processes(called, most_workers)
    waits = placement == "loop" or (placement == "auto" and called.is_async)
    if is_isolating() and not waits:
        return _isolated(called, most_workers)
    function, lifespan = called.target, None
    if is_node_class(called.target):
        instance = Instance(called.target, dict(called.init), called.node_id, on_loop=waits)
        function, lifespan = instance.call, instance.lifespan
    if waits == called.is_async:
        return Placed(function=function, made=lambda call: call, waits=waits, lifespan=lifespan)
    return Placed(function=function, made=_on_loop if waits else _in_thread, waits=waits, lifespan=lifespan)


def _isolated(called: Called, most_workers: int | None) -> Placed:
    reason = called.stays
    if reason is None:
        try:
            return _in_processes(called, most_workers)
        except InvalidValue as error:
            reason = str(error)
    message = f"the call may hold the interpreter for ever, and a process, where that could be ended, cannot make it: {reason}"

    def refused(*_args: Any, **_kwargs: Any) -> Any:
        raise InvalidValue(message)

    return Placed(function=refused, made=lambda call: call, waits=False)


def _on_loop(call: Call) -> Call:
    async def on_loop(scope: Scope) -> Any:
        value = call(scope)
        return await value if inspect.isawaitable(value) else value

    return on_loop


def _in_thread(call: Call) -> Call:
    return lambda scope: asyncio.run(call(scope))


def _in_processes(called: Called, most_workers: int | None) -> Placed:
    init = dict(called.init) if is_node_class(called.target) else None
    start = Start(called.name or called.target, init)
    if called.name is None and _is_of_program(called.target):
        raise InvalidValue(
            f"{_shown(called.target)} is defined in the program itself: move it to a module, which worker processes can import"
        )
    packed(start, f"{_shown(called.target)}, with its settings,")
    pool = WorkerPool(called.node_id, start, most_workers or usable_cores())
    return Placed(function=_collected, made=partial(_in_process, pool), waits=True, queues=True, lifespan=pool.lifespan)


def _in_process(pool: WorkerPool, call: Call) -> Call:
    async def in_process(scope: Scope) -> Any:
        args, kwargs = call(scope)
        return await pool.call(packed_call(args, kwargs), lambda: scope.sending(in_doubt=False))

    return in_process


def _collected(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def _is_of_program(target: Callable[..., Any]) -> bool:
    while isinstance(target, partial):
        target = target.func
    named = target if hasattr(target, "__qualname__") else type(target)
    return named.__module__ == "__main__"


def _shown(target: Callable[..., Any]) -> str:
    return getattr(target, "__qualname__", None) or f"an object of {type(target).__qualname__}"
