"""Calls of code of users that run at the same time, within the call of one node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import anyio
from anyio.abc import TaskGroup

from batchrun.engine.attempt import is_for_us, stoppable
from batchrun.engine.part import PartEnded
from batchrun.engine.together import SharedSlot


class Gathered(NamedTuple):
    """What came of them, by their numbers."""

    values: dict[int, Any]
    errors: dict[int, BaseException]


async def gathered(calls: Sequence[Callable[[], Awaitable[Any]]], most: int, slot: SharedSlot) -> Gathered:
    """Make calls, `most` of them at once. The first failure ends the others; a question to a person does not."""
    ended = Gathered({}, {})
    left = iter(enumerate(calls))
    workers = at_work = min(most, len(calls))

    async def work(group: TaskGroup) -> None:
        nonlocal at_work
        scope = group.cancel_scope
        try:
            for number, call in left:
                try:
                    ended.values[number] = await stoppable(_awaited(call), lambda: scope.cancel_called)
                except BaseException as error:  # whatever code of users raises
                    if is_for_us(error):
                        raise
                    ended.errors[number] = error
                    if not (isinstance(error, PartEnded) and error.status == "waiting"):  # others may come to their questions, too
                        scope.cancel()
                if scope.cancel_called:
                    return
        finally:
            at_work -= 1
            if at_work:  # the place of the last one is that of whoever waits for them
                with anyio.CancelScope(shield=True):
                    await slot.leave()

    slot.join(max(workers - 1, 0))
    async with anyio.create_task_group() as group:
        for _ in range(workers):
            group.start_soon(work, group)
    return ended


async def _awaited(call: Callable[[], Awaitable[Any]]) -> Any:
    return await call()
