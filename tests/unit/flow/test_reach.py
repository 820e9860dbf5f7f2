"""A scope and a timer that serve one call after another."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest

from batchrun.flow.reach import Reach
from batchrun.testing.clock import run_virtually


async def ended_by(reach: Reach, seconds: float | None, call_seconds: float) -> bool:
    """Make a call that takes so long. Returns whether it was cancelled."""
    if seconds is not None:
        reach.arm(seconds)
    try:
        await asyncio.sleep(call_seconds)
    except asyncio.CancelledError as error:
        return reach.has_ended(error)
    finally:
        reach.disarm()
    return False


def test_each_call_has_the_deadline_it_was_given() -> None:
    """One timer serves all calls: a deadline before and after that of the last call is kept to the second, one that is over is not."""

    async def work() -> list[tuple[bool, float]]:
        seen = []
        with Reach() as reach:
            for seconds, call_seconds in [(600, 1), (5, 9), (8, 1), (8, 9), (None, 1000), (2, 1), (600, 601), (600, 599)]:
                began = anyio.current_time()
                seen.append((await ended_by(reach, seconds, call_seconds), anyio.current_time() - began))
        return seen

    cancelled = [(False, 1), (True, 5), (False, 1), (True, 8), (False, 1000), (False, 1), (True, 600), (False, 599)]
    assert run_virtually(work) == cancelled


def test_a_call_that_returns_although_it_was_cancelled_leaves_nothing_to_the_next() -> None:
    """A scope that was used cancels whatever comes: the next call would never get anywhere."""

    async def work() -> tuple[bool, int]:
        with Reach() as reach:
            reach.arm(1)
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
            assert reach.is_used
            assert not reach.has_ended()
            is_cancelled = await ended_by(reach, 10, 5)
            task = asyncio.current_task()
            return is_cancelled, 0 if task is None else task.cancelling()

    assert run_virtually(work) == (False, 0)


def test_a_cancellation_from_outside_is_no_end_of_a_call() -> None:
    """A task that is cancelled has ended with all that it would do."""

    async def work() -> bool:
        is_ours: list[bool] = []

        async def worker() -> None:
            with Reach() as reach:
                reach.arm(10)
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError as error:
                    is_ours.append(reach.has_ended(error))
                    raise

        task = asyncio.create_task(worker())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return is_ours[0]

    assert run_virtually(work) is False
