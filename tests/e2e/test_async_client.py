"""The asynchronous client: the same names, to be awaited, and the event loop goes on meanwhile."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterator

import anyio
import pytest

from batchrun import AsyncClient, AsyncExecution, Client, Execution, ExecutionError, Job, JobError
from batchrun.client import ExecutionView
from batchrun.client.clients import AsyncExecutions, Executions
from tests.e2e.conftest import PATIENCE_SECONDS, Calls, Project
from tests.e2e.submitting import Held, submitting


@pytest.fixture
def held(project: Project, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    with submitting(project, calls, monkeypatch) as held:
        yield held


async def wait(execution: AsyncExecution) -> str:
    return await execution.wait(interval_seconds=0.02, timeout_seconds=PATIENCE_SECONDS)


async def calls_of(held: Held, count: int) -> None:
    await anyio.to_thread.run_sync(held.calls.wait_for, count)


def names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("blocking", "awaited"),
    [(Client, AsyncClient), (Execution, AsyncExecution), (Executions, AsyncExecutions)],
    ids=["client", "one", "all"],
)
def test_both_clients_have_the_same_names(blocking: type, awaited: type) -> None:
    """What is written for one client is found in the other."""
    assert names(awaited) == names(blocking)
    assert issubclass(awaited, ExecutionView) == issubclass(blocking, ExecutionView)


async def test_an_execution_is_steered_by_awaiting(held: Held) -> None:
    """All verbs do what their blocking twins do; refusals come as the same errors."""
    held.hold()
    async with AsyncClient() as client:
        with pytest.raises(JobError, match="unknown key"):
            await client.submit("job.yaml", ["run.paralelism=3"])
        execution = await client.submit("job.yaml")
        assert (type(execution), execution.is_in_progress) == (AsyncExecution, True)
        await calls_of(held, 2)
        assert await execution.refresh_status() == "running"
        with pytest.raises(TimeoutError, match="it goes on"):
            await execution.wait(interval_seconds=0.01, timeout_seconds=0.05)
        with pytest.raises(ExecutionError, match="is being run by process"):
            await execution.resume()
        await execution.tune({"run.parallelism": 3})
        await calls_of(held, 3)
        assert await execution.pause() == "requested"
        assert await wait(execution) == "paused"
        await execution.resume()
        assert execution.status == "running"
        await calls_of(held, 3 + 3)
        assert await execution.cancel() == "requested"
        assert await wait(execution) == "cancelled"
        held.let_go()
        await execution.resume()
        assert await wait(execution) == "completed"
        assert execution.results["status"].to_pylist() == ["completed", "completed", "failed", "completed"]


async def test_executions_are_run_again_and_found_by_awaiting(held: Held) -> None:
    """Retry, rerun and the list give objects that are awaited, too."""
    async with AsyncClient(home="lists") as client:
        execution = await client.submit("job.yaml")
        assert await wait(execution) == "completed"
        with pytest.raises(ExecutionError, match="no failed item matches"):
            await execution.retry("attempts > 5")
        (held.folder / "repaired").touch()
        await execution.retry()
        assert await wait(execution) == "completed"
        assert execution.has_succeeded
        again = await execution.rerun(outputs={"work": "fixed"})
        assert type(again) is AsyncExecution
        assert await wait(again) == "completed"
        assert set(again.results["output"].to_pylist()) == {"fixed"}
        found = await client.executions.list(job="held", status=["completed"], limit=5)
        assert [(type(each), each.id, each.status) for each in found] == [
            (AsyncExecution, again.id, "completed"),
            (AsyncExecution, execution.id, "completed"),
        ]
        assert (await client.executions.get("latest")).id == again.id
        assert (await client.executions.get(execution.folder)).id == execution.id


async def test_hundreds_are_awaited_at_once(held: Held) -> None:
    """Waiting takes no thread: the program goes on with other things, and every wait ends with its execution."""
    held.hold()
    client = AsyncClient()
    execution = await client.submit("job.yaml")
    waiting = [AsyncExecution.like(execution) for _ in range(300)]
    async with anyio.create_task_group() as tasks:
        for each in waiting:
            tasks.start_soon(functools.partial(each.wait, interval_seconds=1000))
        await calls_of(held, 2)  # in a thread, of which there are fewer than there are waits
        tasks.cancel_scope.cancel()

    statuses: list[str] = []

    async def ended(each: AsyncExecution) -> None:
        statuses.append(await each.wait(interval_seconds=0.2, timeout_seconds=PATIENCE_SECONDS))

    async with anyio.create_task_group() as tasks:
        for each in waiting:
            tasks.start_soon(ended, each)
        await execution.refresh_status()
        assert statuses == []
        held.let_go()
    assert statuses == ["completed"] * 300


async def test_jobs_are_submitted_side_by_side(held: Held) -> None:
    """Jobs are checked in several threads at once, and the program's own warnings are shown afterwards as they were before."""
    refused: list[str] = []
    before, interval = list(warnings.filters), sys.getswitchinterval()
    client = AsyncClient()

    async def submit() -> None:
        try:
            await client.submit(Job(dataset="data.csv", workflow=lambda item: item))
        except JobError as error:
            refused.append(str(error))

    sys.setswitchinterval(1e-6)  # so that threads get into each other's way if they can
    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(submit)
    finally:
        sys.setswitchinterval(interval)
    assert len(refused) == 200
    assert {message[:60] for message in refused} == {refused[0][:60]}
    assert warnings.filters == before


async def test_a_wait_that_is_cancelled_leaves_the_execution_alone(held: Held) -> None:
    """Cancelling a task ends its waiting at once, and what it waited for goes on."""
    held.hold()
    execution = await AsyncClient().submit("job.yaml")
    await calls_of(held, 2)
    with anyio.move_on_after(0.1) as scope:
        await execution.wait(interval_seconds=1000)
    assert scope.cancelled_caught
    assert await execution.refresh_status() == "running"
    held.let_go()
    assert await wait(execution) == "completed"
