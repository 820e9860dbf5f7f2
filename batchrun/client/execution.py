"""One execution, and what can be asked of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from batchrun.client import detached
from batchrun.client.starting import DatasetVersion, submit_again
from batchrun.client.view import ExecutionView
from batchrun.core.executions import ShownStatus
from batchrun.execution import account
from batchrun.execution.account import Answer


class Execution(ExecutionView):
    """One execution of a job: how far it is or how it ended, its result, and what can be asked of it.

    What it says is as of the moment it was made or last refreshed.

    Args:
        folder: the execution's folder, or a copy of it.

    Raises:
        ExecutionError: there is no execution in the folder.

    Example:
        >>> execution = batchrun.execute("configs/quickstart.yaml")  # doctest: +SKIP
        >>> execution.status, execution.progress.failed_items  # doctest: +SKIP
        ('completed', 0)
    """

    def refresh_status(self) -> ShownStatus:
        """Look at the execution again; returns its status.

        Raises:
            ExecutionError: its folder is gone.
        """
        return self.look()

    def wait(self, *, interval_seconds: float = 1.0, timeout_seconds: float | None = None, adaptive: bool = False) -> ShownStatus:
        """Wait until the execution has ended, was stopped, or has lost its process.

        Args:
            interval_seconds: how often to look.
            timeout_seconds: wait no longer; null: without limit.
            adaptive: look less and less often: the interval grows by half each time, up to 30 seconds.

        Raises:
            TimeoutError: it still goes on; this stops the waiting and nothing else.
        """
        for seconds in self.looks(interval_seconds, timeout_seconds, adaptive=adaptive):
            time.sleep(seconds)
        return self.status

    def cancel(self) -> Answer:
        """End the execution for good, as far as it has come. Asking again changes nothing.

        A running execution stops within a second, and its calls in flight get the grace period; any other is cancelled at once.

        Returns:
            `requested`, `done`, or `nothing` when it had ended already.
        """
        answer = account.cancel(self.folder)
        self.refresh_status()
        return answer

    def pause(self) -> Answer:
        """Stop the execution within a second, so that it can be resumed; calls in flight get the grace period.

        Returns:
            `requested`, or `nothing` when it is paused.

        Raises:
            ExecutionError: it is not running.
        """
        return account.pause(self.folder)

    def tune(self, overrides: Mapping[str, Any] | Sequence[str]) -> None:
        """Change `run.parallelism` or the `max_concurrency` of resources while it runs.

        Args:
            overrides: the new values, such as `{"run.parallelism": 10}` or `["resources.api.max_concurrency=4"]`.

        Raises:
            JobError: a value is refused, or cannot change while items run.
            ExecutionError: it is not running.
        """
        account.tune(self.folder, overrides)

    def resume(self, overrides: Mapping[str, Any] | Sequence[str] = (), *, accept_changes: bool = False) -> None:
        """Go on with the execution in a process of its own; returns when that process has begun.

        Args:
            overrides: values that are different from now on; see `batchrun.resume`.
            accept_changes: go on though the workflow was edited.

        Raises:
            ExecutionError: it cannot go on, or another process runs it; the message says why.
        """
        self._continue({"overrides": overrides, "accept_changes": accept_changes})

    def retry(
        self,
        where: str | None = None,
        overrides: Mapping[str, Any] | Sequence[str] = (),
        *,
        from_start: bool = False,
        accept_changes: bool = False,
    ) -> None:
        """Run failed items again, in a process of its own; returns when that process has begun.

        Args:
            where: a SQL expression over the columns of the result, such as `"error.type = 'Timeout'"`; null: all failed items.
            overrides: values that are different from now on.
            from_start: run all nodes of these items again, not only those that did not complete.
            accept_changes: go on though the workflow was edited.

        Raises:
            ExecutionError: no failed item matches, or the execution cannot go on; the message says why.
        """
        self._continue({"overrides": overrides, "accept_changes": accept_changes, "where": where, "from_start": from_start})

    def rerun(
        self,
        overrides: Mapping[str, Any] | Sequence[str] = (),
        *,
        dataset_version: DatasetVersion = "latest",
        outputs: Mapping[str, Any] | Sequence[str] = (),
    ) -> Execution:
        """Run its job again as a new execution, in a process of its own. Returns at once; see `batchrun.rerun`.

        Raises:
            JobError: the job is refused, or the dataset is not the original one.
        """
        with submit_again(self.folder, overrides, dataset_version, outputs) as (_, record):
            detached.start(record.folder, {})
        return Execution(record.folder)

    def _continue(self, options: Mapping[str, Any]) -> None:
        process = detached.start(self.folder, options)
        detached.wait_for_begin(self.folder, process)
        self.refresh_status()
