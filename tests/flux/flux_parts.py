"""Flux workflows for tests: the real library, small enough to be read at a glance."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from flux import ExecutionContext, task, workflow
from flux.output_storage import OutputStorage, OutputStorageReference
from flux.tasks import parallel, pause

calls: list[str] = []
"""What tasks have begun, in their order."""
moods: list[bool] = []
"""Whether the next calls of `moody` fail."""


class Shelf(OutputStorage):
    """Keeps outputs by the id of their run."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def store(self, reference_id: str, value: Any) -> OutputStorageReference:
        self.kept[reference_id] = value
        return OutputStorageReference("shelf", reference_id, {})

    def retrieve(self, reference: OutputStorageReference) -> Any:
        return self.kept[reference.reference_id]

    def delete(self, reference: OutputStorageReference) -> None:
        del self.kept[reference.reference_id]


@task
async def double(number: int) -> int:
    calls.append(f"double {number}")
    await asyncio.sleep(0)
    return 2 * number


@task
def plain(number: int) -> int:
    return number + 1


@task
async def moody() -> str:
    calls.append("moody")
    if moods and moods.pop():
        raise ConnectionError("not now")
    return "well"


@task.with_options(retry_max_attempts=2, retry_delay=1)
async def broken(number: int) -> int:
    calls.append("broken")
    raise LookupError(f"no customer {number}")


@task
async def hangs() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        calls.append("left")


@workflow
async def doubled(ctx: ExecutionContext[dict[str, int]]) -> dict[str, int]:
    return {"doubled": await double(ctx.input["n"])}


@workflow
async def single(ctx: ExecutionContext[Any]) -> Any:
    return ctx.input


@workflow.with_options(output_storage=Shelf())
async def shelved(ctx: ExecutionContext[dict[str, int]]) -> dict[str, int]:
    return {"doubled": await double(ctx.input["n"])}


@workflow
async def failing(ctx: ExecutionContext[dict[str, int]]) -> int:
    return await broken(ctx.input["n"])


@workflow
async def own_failure(ctx: ExecutionContext[dict[str, int]]) -> None:
    raise PermissionError("keep out")


@workflow
async def again(ctx: ExecutionContext[dict[str, int]]) -> list[Any]:
    return [await double(ctx.input["n"]), await moody(), *await parallel(double(1), double(1))]


@workflow
async def hanging(ctx: ExecutionContext[dict[str, int]]) -> None:
    await hangs()


@workflow
async def asking(ctx: ExecutionContext[dict[str, int]]) -> list[Any]:
    return [await double(ctx.input["n"]), await pause("ask", {"for": ctx.input["n"]})]


@workflow
async def odd(ctx: ExecutionContext[dict[str, int]]) -> Any:
    return {1, 2} if ctx.input["n"] == 0 else object()


@workflow
async def where(ctx: ExecutionContext[dict[str, int]]) -> bool:
    return threading.current_thread() is threading.main_thread()


@workflow.with_options(name="gated")
async def gated(ctx: ExecutionContext[dict[str, int]]) -> int:
    return await double.with_options(requires_approval=True)(ctx.input["n"])
