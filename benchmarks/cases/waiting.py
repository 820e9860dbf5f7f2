"""Items that each wait 10 ms, many at a time, against the time this takes at best."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchrun import Workflow
from batchrun.nodes.python import PythonNode
from benchmarks.functions import WAIT_SECONDS, wait, wait_in_thread
from benchmarks.jobs import job_of, measured, tickets
from benchmarks.model import Aim, Case, Variant

_FUNCTIONS = {"async": wait, "threads": wait_in_thread}


def loop(dataset: str, items: int, folder: str, parallelism: int) -> Any:  # noqa: ARG001 - every variant is given the same
    """Workers that pull from an iterator, and keep nothing."""

    async def work() -> int:
        numbers, done = iter(range(items)), 0

        async def worker() -> None:
            nonlocal done
            for number in numbers:
                await wait(number)
                done += 1

        await asyncio.gather(*(worker() for _ in range(parallelism)))
        return done

    return lambda: asyncio.run(work())


def job(dataset: str, items: int, folder: str, parallelism: int, kind: str) -> Any:
    """The job, with a durable journal and full records."""
    nodes = (PythonNode(id="wait", call=_FUNCTIONS[kind], inputs={"n": "{{ item.id }}"}),)
    work, warm_up = measured(
        lambda source: job_of(Workflow(nodes=nodes), source, Path(folder), parallelism=parallelism), dataset, items, folder
    )
    return work, replace(warm_up, fixed_seconds=warm_up.fixed_seconds - WAIT_SECONDS)  # the few wait once, all at a time


def _case(parallelism: int, items: int, efficiency: float) -> Case:
    given = {"parallelism": parallelism}
    return Case(
        group="waiting",
        name=f"waiting, {parallelism} at a time",
        about=f"an item waits 10 ms, {parallelism} items at a time; start-up is taken off",
        baseline="ideal",
        variants=(
            Variant(name="loop", call="benchmarks.cases.waiting:loop", arguments=given),
            Variant(name="batchrun, async", call="benchmarks.cases.waiting:job", arguments={**given, "kind": "async"}),
            Variant(name="batchrun, threads", call="benchmarks.cases.waiting:job", arguments={**given, "kind": "threads"}),
        ),
        files=tickets,
        items=items,
        quick_items=4 * parallelism,
        aims=(Aim(variant="batchrun, async", at_most=1 / efficiency, against="ideal"),),
        ideal_seconds=lambda count: -(-count // parallelism) * WAIT_SECONDS,
    )


CASES = (_case(50, 20_000, 0.97), _case(500, 100_000, 0.93))
