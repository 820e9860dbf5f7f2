"""Inputs that are files: `inputs: {document: {file: "{{ item.path }}"}}`.

What reads them is the `file` node type; they are read when the node is called, and recorded as what they name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from batchrun.core.files import File
from batchrun.workflows.node import NodeCall, NodeCompiler, Render
from batchrun.workflows.registry import node_type
from batchrun.workflows.scope import Scope

_KEYS = ("file", "allow_paths", "allow_hosts", "max_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundFile:
    """What reads one file per item.

    Attributes:
        source: gives what names the file; null: there is none.
        read: reads the file that it names.
        lifespan: entered before the first item, left after the last.
    """

    source: Render
    read: Callable[[Any], Awaitable[File | None]]
    lifespan: Callable[[], AbstractAsyncContextManager[None]]


class ReadsFiles(Protocol):
    """The options of the node type that reads files."""

    def bind_file(self, compiler: NodeCompiler, *path: str | int) -> BoundFile | None:
        """What reads the file for an item. Mistakes are reported at `path` and beside it."""


def is_file(value: Any) -> bool:
    """Whether the value of an input names a file."""
    return isinstance(value, Mapping) and "file" in value and all(key in _KEYS for key in value)


def bind_files(inputs: Mapping[str, Any], compiler: NodeCompiler) -> dict[str, BoundFile]:
    """Bind those of a node's inputs that are files, by name. Mistakes are reported below `inputs`."""
    found: dict[str, BoundFile] = {}
    for name, value in inputs.items():
        if not is_file(value):
            continue
        problem = _problem(value)
        if problem is not None:
            compiler.problem(problem[1], "inputs", name, problem[0])
            continue
        bound = _options(value).bind_file(compiler, "inputs", name, "file")
        if bound is not None:
            found[name] = bound
    return found


def with_sources(inputs: Render, files: Mapping[str, BoundFile]) -> Render:
    """Inputs as they are recorded: what names each file in the place of its content."""
    if not files:
        return inputs
    return lambda scope: {**inputs(scope), **{name: {"file": file.source(scope)} for name, file in files.items()}}


def with_files(call: NodeCall, files: Mapping[str, BoundFile]) -> NodeCall:
    """A call that reads its files before it is made. What they hold is not part of its key, so it has none."""
    if not files:
        return call
    around = _Around(call, files)
    many = call.call_many
    return replace(
        call,
        call=around.call_waiting if call.waits else around.call,
        call_many=None if many is None else around.call_many_waiting if call.waits else around.call_many,
        key=None,
        lifespan=around.lifespan,
    )


class _Around:
    """Reads the files of a call before it is made: on the event loop, wherever the call itself is made."""

    def __init__(self, call: NodeCall, files: Mapping[str, BoundFile]) -> None:
        self._call = call
        self._files = files
        self._loop: asyncio.AbstractEventLoop

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            for lifespan in (self._call.lifespan, *(file.lifespan for file in self._files.values())):
                if lifespan is not None:
                    await stack.enter_async_context(lifespan())
            yield

    async def call_waiting(self, scope: Scope) -> Any:
        with _holding(scope, await self._read(scope)):
            return await cast("Awaitable[Any]", self._call.call(scope))

    def call(self, scope: Scope) -> Any:
        with _holding(scope, self._read_outside(scope)):
            return self._call.call(scope)

    async def call_many_waiting(self, scopes: Sequence[Scope]) -> Any:
        with ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(_holding(scope, await self._read(scope)))
            return await cast("Awaitable[Any]", self._many(scopes))

    def call_many(self, scopes: Sequence[Scope]) -> Any:
        with ExitStack() as stack:
            for scope in scopes:
                stack.enter_context(_holding(scope, self._read_outside(scope)))
            return self._many(scopes)

    def _many(self, scopes: Sequence[Scope]) -> Any:
        return cast("Callable[[Sequence[Scope]], Any]", self._call.call_many)(scopes)

    async def _read(self, scope: Scope) -> dict[str, File | None]:
        return {name: await file.read(scope.inputs[name]["file"]) for name, file in self._files.items()}

    def _read_outside(self, scope: Scope) -> dict[str, File | None]:
        """The same, in a thread."""
        return asyncio.run_coroutine_threadsafe(self._read(scope), self._loop).result()


@contextmanager
def _holding(scope: Scope, files: Mapping[str, File | None]) -> Iterator[None]:
    """The files are among the inputs while the call is made, and not for as long as the item is open."""
    named = scope.inputs
    scope.inputs = {**named, **files}
    try:
        yield
    finally:
        scope.inputs = named


def _options(value: Mapping[str, Any]) -> ReadsFiles:
    said = {key: tuple(each) if isinstance(each, list | tuple) else each for key, each in value.items() if key != "file"}
    options: Any = node_type("file")
    return cast("ReadsFiles", options(id="file", source=value["file"], **said))


def _problem(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong with the mapping of a file: the key, and the message."""
    if not isinstance(value["file"], str):
        return "file", f"must be text, got {value['file']!r}"
    for key in ("allow_paths", "allow_hosts"):
        each = value.get(key)
        if each is not None and not (isinstance(each, list | tuple) and all(isinstance(entry, str) for entry in each)):
            return key, f"must be a list of texts, got {each!r}"
    most = value.get("max_bytes", 1)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        return "max_bytes", f"must be a whole number ≥ 1, got {most!r}"
    return None
