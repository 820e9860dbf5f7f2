"""One execution, and what can be asked of it in calls that block; those that are awaited are in `awaited`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from batchrun.client import verbs
from batchrun.client.pauses import blocking
from batchrun.client.starting import DatasetVersion
from batchrun.client.view import ExecutionView
from batchrun.core.executions import ShownStatus
from batchrun.execution import decisions
from batchrun.execution.account import Answer
from batchrun.execution.decisions import WaitingItem


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

        Example:
            >>> while execution.refresh_status() == "running":  # doctest: +SKIP
            ...     print(execution.progress.processed_items)
            ...     time.sleep(5)
        """
        return self.look()

    def wait(self, *, interval_seconds: float = 1.0, timeout_seconds: float | None = None, adaptive: bool = False) -> ShownStatus:
        """Wait until the execution has ended, was stopped, or has lost its process. Returns its status.

        Args:
            interval_seconds: how often to look.
            timeout_seconds: wait no longer; null: without limit.
            adaptive: look less and less often: the interval grows by half each time, up to 30 seconds.

        Raises:
            TimeoutError: it still goes on; this stops the waiting and nothing else.
            ExecutionError: its folder is gone.

        Example:
            >>> execution.wait(interval_seconds=2, timeout_seconds=300)  # doctest: +SKIP
            'completed'
        """
        return blocking(self.looks(interval_seconds, timeout_seconds, adaptive=adaptive))

    def cancel(self) -> Answer:
        """End the execution for good, as far as it has come. Asking again changes nothing.

        A running execution stops within a second, and its calls in flight get the grace period; any other is cancelled at once.

        Returns:
            `requested`, `done`, or `nothing` when it had ended already.

        Raises:
            ExecutionError: its folder is gone or cannot be written to.

        Example:
            >>> execution.cancel(), execution.wait()  # doctest: +SKIP
            ('requested', 'cancelled')
        """
        return verbs.cancel(self)

    def pause(self) -> Answer:
        """Stop the execution within a second, so that it can be resumed; calls in flight get the grace period.

        Returns:
            `requested`, or `nothing` when it is paused.

        Raises:
            ExecutionError: it is not running.

        Example:
            >>> execution.pause(), execution.wait()  # doctest: +SKIP
            ('requested', 'paused')
        """
        return verbs.pause(self)

    def tune(self, overrides: Mapping[str, Any] | Sequence[str]) -> None:
        """Change `run.parallelism`, or `max_concurrency`, `requests_per_minute` and `tokens_per_minute` of resources, while it runs.

        Args:
            overrides: the new values, such as `{"run.parallelism": 10}` or `["resources.api.max_concurrency=4"]`.

        Raises:
            JobError: a value is refused, or cannot change while items run.
            ExecutionError: it is not running.

        Example:
            >>> execution.tune({"run.parallelism": 10})  # doctest: +SKIP
        """
        verbs.tune(self, overrides)

    def waiting_items(self) -> list[WaitingItem]:
        """The items that wait for a person, with what each is to decide about.

        Raises:
            ExecutionError: the journal cannot be read.

        Example:
            >>> [(item.id, item.shown) for item in execution.waiting_items()]  # doctest: +SKIP
            [('A17', {'draft': 'Dear Ms Lovelace'})]
        """
        return list(decisions.waiting_items(self.folder))

    def approve(
        self, items: Sequence[Any] | None = None, *, output: Any = ..., node_id: str | None = None, by: str | None = None
    ) -> list[WaitingItem]:
        """Let items go on that wait for a person: with the next resume, or at the end of the run that goes on.

        Args:
            items: their ids; null: all that wait.
            output: the output of the node that waits; left out: what was shown.
            node_id: the node; needed where an item waits at several.
            by: who decides, for people.

        Returns:
            The items it was about.

        Raises:
            ExecutionError: an item does not wait, or waits at several nodes; nothing was decided.
            InvalidValue: the output does not come back from JSON as it was.

        Example:
            >>> execution.approve(["A17"], output={"draft": "Dear Ada"})  # doctest: +SKIP
            >>> execution.resume()  # doctest: +SKIP
        """
        return verbs.approve(self, items, output, node_id=node_id, by=by)

    def reject(
        self, items: Sequence[Any] | None = None, *, reason: str | None = None, node_id: str | None = None, by: str | None = None
    ) -> list[WaitingItem]:
        """Have the nodes fail that wait for a person: with `Rejected`, which `on_failure` may take up; see `approve`."""
        return verbs.reject(self, items, reason, node_id=node_id, by=by)

    def resume(self, overrides: Mapping[str, Any] | Sequence[str] = (), *, accept_changes: bool = False) -> None:
        """Go on with the execution in a process of its own; returns when that process has begun. Does nothing when it has completed.

        Args:
            overrides: values that are different from now on; see `batchrun.resume`.
            accept_changes: go on though the workflow was edited.

        Raises:
            JobError: the dataset, the items or the workflow are not what they were; the error names each difference.
            ExecutionError: another process runs it, its job was refused, or the process ended early; the message says why.

        Example:
            >>> execution.resume({"run.budget.max_calls": 20_000})  # doctest: +SKIP
            >>> execution.wait()  # doctest: +SKIP
            'completed'
        """
        blocking(verbs.resume(self, overrides, accept_changes=accept_changes))

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
            JobError: `where` is refused, or as in `resume`.
            ExecutionError: no failed item matches, or as in `resume`. Nothing has changed.

        Example:
            >>> execution.retry(where="error.type = 'Timeout'")  # doctest: +SKIP
            >>> execution.wait(), execution.progress.failed_items  # doctest: +SKIP
            ('completed', 0)
        """
        blocking(verbs.retry(self, where, overrides, from_start=from_start, accept_changes=accept_changes))

    def rerun(
        self,
        overrides: Mapping[str, Any] | Sequence[str] = (),
        *,
        dataset_version: DatasetVersion = "latest",
        outputs: Mapping[str, Any] | Sequence[str] = (),
    ) -> Execution:
        """Run its job again as a new execution, in a process of its own. Returns the new one at once.

        Args:
            overrides: values that are different this time.
            dataset_version: `latest`: the dataset as it is now; `original`: only if it is what it was.
            outputs: outputs of nodes that are not called this time, by node id.

        Raises:
            JobError: the job is refused, or the dataset is not the original one. Nothing was started.
            ExecutionError: the folder of the new execution cannot be written to, or no process can be started.

        Example:
            >>> again = execution.rerun({"vars.model": "large"}, outputs={"clean": "x"})  # doctest: +SKIP
            >>> again.wait()  # doctest: +SKIP
            'completed'
        """
        return Execution(verbs.rerun(self, overrides, dataset_version=dataset_version, outputs=outputs))

    def publish(self, url: str | None = None) -> str:
        """Copy its files to an object store, in the place of those that an earlier end has left there.

        Args:
            url: the address that they are put below, in a folder named by the id; null: `output.publish` of its job.

        Returns:
            The address of that folder.

        Raises:
            JobError: the address is refused, or `batchrun[cloud]` is not installed.
            ExecutionError: it has no result, a process runs it, no address is known, or the store does not take the files.

        Example:
            >>> execution.publish("s3://my-bucket/results")  # doctest: +SKIP
            's3://my-bucket/results/20261101T093000-0a1b2c3d4e'
        """
        return verbs.publish(self, url)
