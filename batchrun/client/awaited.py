"""One execution, and what can be asked of it by programs with an event loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batchrun.client import verbs
from batchrun.client.pauses import awaiting, in_thread
from batchrun.client.starting import DatasetVersion
from batchrun.client.view import ExecutionView
from batchrun.core.executions import ShownStatus
from batchrun.execution import decisions
from batchrun.execution.account import Answer
from batchrun.execution.decisions import WaitingItem


class AsyncExecution(ExecutionView):
    """One execution for programs with an event loop: the properties of `Execution`, and its verbs, to be awaited.

    Looking at it blocks for about a millisecond, and is done in worker threads; waiting takes no thread, so hundreds of executions
    can be waited for at once. Properties that read the result, such as `results`, block. Cancelling a call stops
    the waiting and nothing else: what was asked may still happen.

    Example:
        >>> async with batchrun.AsyncClient() as client:  # doctest: +SKIP
        ...     execution = await client.submit("configs/quickstart.yaml")
        ...     await execution.wait(timeout_seconds=300)
        'completed'
    """

    async def refresh_status(self) -> ShownStatus:
        """Look at the execution again; see `Execution.refresh_status`."""
        return await in_thread(self.look)

    async def wait(self, *, interval_seconds: float = 1.0, timeout_seconds: float | None = None, adaptive: bool = False) -> ShownStatus:
        """Wait until the execution has ended, was stopped, or has lost its process; see `Execution.wait`."""
        return await awaiting(self.looks(interval_seconds, timeout_seconds, adaptive=adaptive))

    async def cancel(self) -> Answer:
        """End the execution for good, as far as it has come; see `Execution.cancel`."""
        return await in_thread(verbs.cancel, self)

    async def pause(self) -> Answer:
        """Stop the execution within a second, so that it can be resumed; see `Execution.pause`."""
        return await in_thread(verbs.pause, self)

    async def tune(self, overrides: Mapping[str, Any] | Sequence[str]) -> None:
        """Change limits of the execution while it runs; see `Execution.tune`."""
        await in_thread(verbs.tune, self, overrides)

    async def waiting_items(self) -> list[WaitingItem]:
        """The items that wait for a person; see `Execution.waiting_items`."""
        return await in_thread(lambda: list(decisions.waiting_items(self.folder)))

    async def approve(
        self, items: Sequence[Any] | None = None, *, output: Any = ..., node_id: str | None = None, by: str | None = None
    ) -> list[WaitingItem]:
        """Let items go on that wait for a person; see `Execution.approve`."""
        return await in_thread(verbs.approve, self, items, output, node_id=node_id, by=by)

    async def reject(
        self, items: Sequence[Any] | None = None, *, reason: str | None = None, node_id: str | None = None, by: str | None = None
    ) -> list[WaitingItem]:
        """Have the nodes fail that wait for a person; see `Execution.reject`."""
        return await in_thread(verbs.reject, self, items, reason, node_id=node_id, by=by)

    async def resume(self, overrides: Mapping[str, Any] | Sequence[str] = (), *, accept_changes: bool = False) -> None:
        """Go on with the execution in a process of its own; see `Execution.resume`."""
        await awaiting(verbs.resume(self, overrides, accept_changes=accept_changes))

    async def retry(
        self,
        where: str | None = None,
        overrides: Mapping[str, Any] | Sequence[str] = (),
        *,
        from_start: bool = False,
        accept_changes: bool = False,
    ) -> None:
        """Run failed items again, in a process of its own; see `Execution.retry`."""
        await awaiting(verbs.retry(self, where, overrides, from_start=from_start, accept_changes=accept_changes))

    async def rerun(
        self,
        overrides: Mapping[str, Any] | Sequence[str] = (),
        *,
        dataset_version: DatasetVersion = "latest",
        outputs: Mapping[str, Any] | Sequence[str] = (),
    ) -> AsyncExecution:
        """Run its job again as a new execution, in a process of its own; see `Execution.rerun`."""
        folder = await in_thread(verbs.rerun, self, overrides, dataset_version=dataset_version, outputs=outputs)
        return await in_thread(AsyncExecution, folder)

    async def publish(self, url: str | None = None) -> str:
        """Copy its files to an object store; see `Execution.publish`."""
        return await in_thread(verbs.publish, self, url)
