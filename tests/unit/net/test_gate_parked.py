"""Items that wait for a service which is out of order give their slots to items that do not need it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from batchrun.core.errors import NodeError
from batchrun.core.job import Resource, Run
from batchrun.core.policies import Backoff, Breaker, Retry
from batchrun.net.client import SLOT, HttpClient
from batchrun.nodes.python import PythonNode
from batchrun.testing.clock import run_virtually
from batchrun.testing.rows import RowRun
from tests.unit.net.counting import Service, answered, client_of, well

OUTAGE_SECONDS = 100.0


class BrokenError(Exception):
    """What a client library of a service may raise."""

    http_status = 503


def test_an_outage_of_one_service_does_not_hold_up_items_that_need_another_one() -> None:
    """Two items at a time, and of twelve that need the broken service ten come first: all others end while it is away."""
    broken, others = list[float](), list[float]()

    async def ask_broken(n: int) -> int:
        broken.append(asyncio.get_running_loop().time())
        if broken[-1] < OUTAGE_SECONDS:
            raise BrokenError("broken")
        return n

    async def ask_other(n: int) -> int:
        others.append(asyncio.get_running_loop().time())
        return n

    nodes = [
        PythonNode(id="one", call=ask_broken, inputs={"n": "{{ item.n }}"}, resource="broken", when="{{ item.n % 5 == 0 or item.n < 10 }}"),
        PythonNode(id="two", call=ask_other, inputs={"n": "{{ item.n }}"}, resource="other", when="{{ item.n % 5 != 0 and item.n >= 10 }}"),
    ]
    run = Run(parallelism=2, max_open_items=20, retry=Retry(max_attempts=200, backoff=Backoff(initial_seconds=0.1, max_seconds=0.1)))
    resources = {"broken": Resource(breaker=Breaker(failures=3)), "other": Resource()}
    results = RowRun(nodes=nodes, run=run, resources=resources).results_virtually([{"n": n} for n in range(20)])
    assert {result.status for result in results} == {"completed"}
    assert len(others) == 8 and max(others) < 10
    into = [at for at in broken if at < OUTAGE_SECONDS]
    assert len(into) < OUTAGE_SECONDS / 4 + 10 and max(broken) < OUTAGE_SECONDS + 10


class CountedSlot:
    """A slot that tells whether it is given back."""

    def __init__(self) -> None:
        self.is_parked = False

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        self.is_parked = True
        try:
            yield
        finally:
            self.is_parked = False


async def until_well(client: HttpClient, slot: CountedSlot) -> None:
    while True:
        request = client.build("GET", "/")
        request.extensions[SLOT] = slot
        try:
            await client.send(request, idempotent=True)
        except NodeError:
            continue
        return


def test_one_caller_keeps_its_slot_and_another_one_comes_when_it_is_given_up() -> None:
    """Somebody always tries the service, also when the one who was to is cancelled, and those who were queued before it broke park, too."""

    async def run() -> None:
        service = Service(lambda _service: answered(500) if 1 <= anyio.current_time() < 101 else well(_service), seconds=0.4)
        client, gate = client_of(service, max_concurrency=6)
        slots = [CountedSlot() for _ in range(20)]
        tasks = [asyncio.create_task(until_well(client, slot)) for slot in slots[:6]]
        await anyio.sleep(0.9)
        tasks += [asyncio.create_task(until_well(client, slot)) for slot in slots[6:]]
        await anyio.sleep(0.6)
        state = gate.state()
        assert state["parked_at"] is not None and state["queued"] + state["in_flight"] == 8
        for _ in range(4):
            alive = [slot for slot, task in zip(slots, tasks, strict=True) if not task.done() and not slot.is_parked]
            assert 1 <= len(alive) <= 2
            tasks[slots.index(alive[0])].cancel()
            await anyio.sleep(10)
        before = len(service.arrived)
        await anyio.sleep(20)
        assert len(service.arrived) - before >= 4
        await asyncio.wait(tasks)
        assert sum(task.cancelled() for task in tasks) == 4
        assert max(service.arrived) < 101 + 6
        assert (gate.state()["queued"], gate.state()["in_flight"]) == (0, 0)

    run_virtually(run)


def test_parked_callers_are_told_when_the_service_stays_away_too_long() -> None:
    """Each of them ends with ServiceParked, as those that kept their slots."""

    async def run() -> None:
        client, gate = client_of(Service(lambda _service: answered(500)), breaker=Breaker(failures=3, max_parked_seconds=30))
        errors = list[NodeError]()

        async def send_with_slot() -> None:
            while True:
                request = client.build("GET", "/")
                request.extensions[SLOT] = CountedSlot()
                try:
                    await client.send(request, idempotent=True)
                except NodeError as error:
                    errors.append(error)
                    if type(error).__name__ == "ServiceParked":
                        return

        with anyio.fail_after(100):
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(send_with_slot)
        assert sum(type(error).__name__ == "ServiceParked" for error in errors) == 8
        assert gate.state()["queued"] == 0

    run_virtually(run)
