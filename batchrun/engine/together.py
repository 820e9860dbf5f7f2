"""Nodes of one item that run at the same time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from batchrun.core.protocols import Slot
from batchrun.engine.item_run import ItemRun
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope


async def together(call: Callable[[ItemRun, Step, Scope], Awaitable[None]], run: ItemRun, steps: Sequence[Step], most: int | None) -> None:
    """Call nodes of an item at the same time, `most` of them if that is not null, until all have ended or one has ended the item."""
    count = min(most or len(steps), len(steps))
    slot = SharedSlot(run.slot, count)
    left = iter(steps)

    async def one_after_another() -> None:
        for step in left:
            if run.status is not None:
                break  # another one has ended the item
            scope = run.branch()
            scope.slot = slot
            await call(run, step, scope)
        await slot.leave()

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(one_after_another)


class SharedSlot:
    """The slot of an item for nodes that run together: it is given back while all of them wait.

    Args:
        slot: that of the item.
        users: how many nodes run.
    """

    def __init__(self, slot: Slot, users: int) -> None:
        self._slot = slot
        self._at_work = users
        self._users = users
        self._parking: AbstractAsyncContextManager[None] | None = None
        self._changing = anyio.Lock()

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        """Do without the slot. It is there again before any of the nodes goes on."""
        self._at_work -= 1
        await self._park_if_unused()
        try:
            yield
        finally:
            self._at_work += 1
            with anyio.CancelScope(shield=True):
                async with self._changing:
                    parking, self._parking = self._parking, None
                    if parking is not None:
                        await parking.__aexit__(None, None, None)

    def join(self, users: int) -> None:
        """More nodes run."""
        self._users += users
        self._at_work += users

    async def leave(self) -> None:
        """A node has ended."""
        self._users -= 1
        self._at_work -= 1
        await self._park_if_unused()

    async def _park_if_unused(self) -> None:
        if self._users and not self._at_work:
            self._parking = self._slot.parked()
            await self._parking.__aenter__()
