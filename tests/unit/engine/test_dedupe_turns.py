"""Who leads, who follows, and whose time runs: the rules of deduplication, one item at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from batchrun.core.errors import Timeout
from batchrun.core.items import Item
from batchrun.core.job import Workflow
from batchrun.engine.attempt import Attempt
from batchrun.engine.deadlines import Deadlines
from batchrun.engine.dedupe import Dedupe
from batchrun.engine.item_run import ItemRun
from batchrun.flow.reach import Reach
from batchrun.testing.clock import run_virtually
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.scope import Scope
from tests.unit.engine.small_nodes import node

Make = Callable[[Scope], Awaitable[Any]]


async def fails(seconds: float) -> Any:
    await anyio.sleep(seconds)
    raise ConnectionError("not now")


async def gives(seconds: float, value: Any) -> Any:
    await anyio.sleep(seconds)
    return value


class Items:
    """Items that ask for the same, each in a task of its own, and what became of them."""

    def __init__(self, *, queues: bool = False, item_timeout_seconds: float | None = None) -> None:
        self.ended: dict[str, tuple[float, Any]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.on_end: Callable[[str], object] = lambda _name: None
        plan = compile_workflow(Workflow(nodes=(node("ask", lambda: 1),)), Surroundings(columns=()))
        self._step = replace(plan.steps[0], queues=queues)
        self._deadlines = Deadlines(item_timeout_seconds=item_timeout_seconds, clock=asyncio.get_running_loop().time)
        self._dedupe = Dedupe(self._step, asyncio.get_running_loop().time, lambda _note: None)

    async def come(self, name: str, make: Make, *, age: float = 0.0) -> None:
        """An item of so many seconds begins to ask; it is waiting when this returns."""
        self.tasks[name] = asyncio.create_task(self.call(name, make, age))
        await asyncio.sleep(0)

    async def call(self, name: str, make: Make, age: float = 0.0) -> None:
        run = ItemRun(Item(0, 0, 0, {}, None, 0), 1)
        run.started = asyncio.get_running_loop().time() - age
        with Reach() as reach:
            await self._call(name, run, make, Attempt(run, self._step, self._deadlines, reach))

    async def _call(self, name: str, run: ItemRun, make: Make, attempt: Attempt) -> None:
        run.sharing, run.sending = attempt, attempt.sending
        try:
            value: Any = await self._dedupe.call(b"key", run, make)
        except (ConnectionError, Timeout) as error:
            value = type(error).__name__
        except asyncio.CancelledError:
            value = "cancelled"
        finally:
            attempt.end()
            self.on_end(name)
        self.ended[name] = (asyncio.get_running_loop().time(), value)

    async def end(self) -> dict[str, tuple[float, Any]]:
        await asyncio.gather(*self.tasks.values())
        return self.ended


def test_who_is_stopped_when_it_is_his_turn_lets_the_next_one_go() -> None:
    """An item that is cancelled in the very moment in which it was to lead holds up nobody."""

    async def main() -> dict[str, tuple[float, Any]]:
        items = Items()
        await items.come("first", lambda scope: fails(5))
        for name in ("second", "third", "fourth"):
            await items.come(name, lambda scope, name=name: gives(1, name))
        items.on_end = lambda name: name == "first" and items.tasks["second"].cancel()
        return await items.end()

    assert run_virtually(main) == {
        "first": (5.0, "ConnectionError"),
        "second": (5.0, "cancelled"),
        "third": (6.0, "third"),
        "fourth": (6.0, "third"),
    }


@pytest.mark.parametrize("leader_ends", [True, False])
def test_who_is_stopped_while_he_waits_is_forgotten(leader_ends: bool) -> None:
    """Neither a call that succeeds nor one that fails looks for items that have gone."""

    async def main() -> dict[str, tuple[float, Any]]:
        items = Items()
        await items.come("first", lambda scope: gives(5, "one") if leader_ends else fails(5))
        await items.come("second", lambda scope: gives(1, "two"))
        closed = items.call("closed", lambda scope: gives(1, "four"))
        closed.send(None)
        await items.come("third", lambda scope: gives(1, "three"))
        await anyio.sleep(2)
        items.tasks["second"].cancel()
        closed.close()
        return await items.end()

    ended = run_virtually(main)
    assert ended["second"] == (2.0, "cancelled")
    assert (ended["first"], ended["third"]) == (((5.0, "one"), (5.0, "one")) if leader_ends else ((5.0, "ConnectionError"), (6.0, "three")))


def test_a_leader_that_is_stopped_is_followed_by_the_next() -> None:
    """A call that is cut off is no reason for others to fail."""

    async def main() -> dict[str, tuple[float, Any]]:
        items = Items()
        await items.come("first", lambda scope: gives(50, "one"))
        await items.come("second", lambda scope: gives(1, "two"))
        await anyio.sleep(3)
        items.tasks["first"].cancel()
        await items.end()
        await items.come("later", lambda scope: gives(1, "new"))
        return await items.end()

    assert run_virtually(main) == {"first": (3.0, "cancelled"), "second": (4.0, "two"), "later": (5.0, "new")}


def test_time_stands_still_while_a_call_waits_for_its_turn() -> None:
    """Items have as much time as if they queued themselves: it runs only while a request is under way."""

    async def queueing(scope: Scope, seconds: float, call: Awaitable[Any]) -> Any:
        await anyio.sleep(seconds)
        scope.sending(in_doubt=False)
        return await call

    async def main() -> dict[str, tuple[float, Any]]:
        items = Items(queues=True, item_timeout_seconds=10.0)
        await items.come("first", lambda scope: queueing(scope, 100, fails(6)))  # is sent at 100
        await items.come("second", lambda scope: queueing(scope, 20, gives(3, "two")))  # leads at 106, is sent at 126
        await items.come("third", lambda scope: gives(0, "three"), age=2)  # has used up 8 of its 10 seconds at 106
        await items.come("fourth", lambda scope: gives(0, "four"))  # has used up 6
        await anyio.sleep(110)
        await items.come("fifth", lambda scope: gives(0, "five"), age=6)
        return await items.end()

    assert run_virtually(main) == {
        "first": (106.0, "ConnectionError"),
        "second": (129.0, "two"),
        "third": (128.0, "Timeout"),
        "fourth": (129.0, "two"),
        "fifth": (129.0, "two"),
    }
