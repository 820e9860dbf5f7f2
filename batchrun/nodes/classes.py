"""Class nodes: an instance is made once in each process that calls it, set up before its first call and taken down after its last.

A class is one when its instances can be called; any other class is called itself, as a function that makes instances.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sysconfig
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeGuard

from batchrun.core.errors import ExecutionError
from batchrun.nodes.guarded import Attempted, attempted, attempted_async

_log = logging.getLogger(__name__)


def is_node_class(target: object) -> TypeGuard[type]:
    """Whether it is a class with a `__call__` of its own.

    Example:
        >>> is_node_class(dict), is_node_class(type("Model", (), {"__call__": len}))
        (False, True)
    """
    return isinstance(target, type) and any("__call__" in vars(base) for base in target.__mro__)


def begun(kind: type, init: dict[str, Any], run: Callable[[Any], Any]) -> Any:
    """An instance of a class, set up. Blocks, and raises what the class raises.

    Args:
        kind: the class.
        init: what it is made with.
        run: runs a coroutine to its end.
    """
    instance = kind(**init)
    if inspect.iscoroutine(waits := _step(instance, "setup")):
        run(waits)
    return instance


def ended(instance: Any, run: Callable[[Any], Any]) -> None:
    """Take an instance down. Blocks, and raises what it raises."""
    if inspect.iscoroutine(waits := _step(instance, "teardown")):
        run(waits)


class Instance:
    """The instance of a node's class in the process that runs the items.

    Args:
        kind: the class.
        init: what it is made with.
        node_id: names the node in errors.
        on_loop: whether it is called on the event loop, and so made there; else in threads.
    """

    def __init__(self, kind: type, init: dict[str, Any], node_id: str, *, on_loop: bool) -> None:
        self._kind = kind
        self._init = init
        self._node_id = node_id
        self._on_loop = on_loop
        self._instance: Any = None

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the instance."""
        return self._instance(*args, **kwargs)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Make the instance, and take it down at the end.

        Raises:
            ExecutionError: it cannot be made or set up.
        """
        name = self._kind.__qualname__
        made = await self._begun()
        if made.error is not None:
            raise ExecutionError(f"node {self._node_id}: setting up {name} failed: {_reason(made.error)}") from made.error
        self._instance = made.value
        try:
            yield
        finally:
            self._instance = None
            error = (await self._ended(made.value)).error
            if error is not None:  # the items have their outputs: nothing is lost
                _log.warning("node %s: the teardown of %s failed: %s", self._node_id, name, _reason(error))

    async def _begun(self) -> Attempted[Any]:
        if not self._on_loop:
            return await asyncio.to_thread(attempted, lambda: begun(self._kind, self._init, asyncio.run))

        async def begin() -> Any:
            instance = self._kind(**self._init)
            if inspect.iscoroutine(waits := _step(instance, "setup")):
                await waits
            return instance

        return await attempted_async(begin())

    async def _ended(self, instance: Any) -> Attempted[None]:
        if not self._on_loop:
            return await asyncio.to_thread(attempted, lambda: ended(instance, asyncio.run))

        async def end() -> None:
            if inspect.iscoroutine(waits := _step(instance, "teardown")):
                await waits

        return await attempted_async(end())


def _step(instance: Any, name: str) -> Any:
    method = getattr(instance, name, None)
    return method() if callable(method) else None


def _reason(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    place = ([frame for frame in frames if not frame.filename.startswith(libraries)] or frames)[-1]
    return f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
