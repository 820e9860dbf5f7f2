"""Clients: executions in processes of their own, started, found and steered from a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeAlias, get_args

from batchrun.client import detached
from batchrun.client.awaited import AsyncExecution
from batchrun.client.datasets import AsyncDatasets, Datasets
from batchrun.client.execution import Execution
from batchrun.client.finding import find_executions, find_folder
from batchrun.client.pauses import in_thread
from batchrun.client.refreshing import refresh_detached
from batchrun.client.schedules import AsyncSchedules, Schedules
from batchrun.core.checks import at_least, problem, refuse
from batchrun.core.errors import known_values
from batchrun.core.executions import ExecutionStatus
from batchrun.core.job import Job
from batchrun.store import store_home

_STATUSES = (*get_args(ExecutionStatus), "interrupted")
_Executions: TypeAlias = list[Execution]  # inside of the classes below, `list` is their method
_AsyncExecutions: TypeAlias = list[AsyncExecution]


class Executions:
    """The executions that a client can find.

    Args:
        home: the folder of the store.
        runs: a folder with executions, besides those in the store.

    Example:
        >>> client.executions.list(job="triage", status=["failed", "cancelled"], created_after="now()-7d")  # doctest: +SKIP
        [<Execution 20261101T093000-0a1b2c3d4e failed: 80 of 100 items, 12 failed>]
    """

    def __init__(self, home: Path, runs: Path) -> None:
        self._home = home
        self._runs = runs

    def get(self, execution: str | Path) -> Execution:
        """The execution that is meant.

        Args:
            execution: its id, the unique beginning of it, its folder, or `latest`.

        Raises:
            NoSuchExecution: there is none, or there are several; the message names candidates.
            ExecutionError: its record cannot be read.
            StoreError: the store cannot be read.

        Example:
            >>> client.executions.get("latest").status  # doctest: +SKIP
            'completed'
        """
        return Execution(find_folder(str(execution), self._runs, self._home))

    def list(
        self,
        *,
        job: str | None = None,
        status: str | Sequence[str] = (),
        created_after: str | datetime | None = None,
        created_before: str | datetime | None = None,
        limit: int | None = None,
    ) -> _Executions:
        """The executions in the store that match, newest first.

        Args:
            job: the name of their job; `*` stands for any characters.
            status: one of these.
            created_after: from this time on, such as `"now()-7d"`, `"12h"`, `"yesterday"`, `"2026-11-01"` or a datetime.
            created_before: before this time.
            limit: the newest so many; null: all.

        Raises:
            InvalidFields: a status is none, or the limit is negative.
            NotAMoment: a text is no point in time.
            StoreError: the store cannot be read.

        Example:
            >>> [execution.id for execution in client.executions.list(status="running", limit=50)]  # doctest: +SKIP
            ['20261101T093000-0a1b2c3d4e']
        """
        unknown = [name for name in ((status,) if isinstance(status, str) else status) if name not in _STATUSES]
        wrong = f"unknown status {unknown[0]!r}; {known_values(unknown[0], _STATUSES, kind='statuses')}" if unknown else None
        refuse(problem("status", wrong), at_least(0, limit=limit))
        return find_executions(
            job=job, status=status, created_after=created_after, created_before=created_before, limit=limit, home=self._home
        )


class AsyncExecutions:
    """The executions that an asynchronous client can find; see `Executions`.

    Example:
        >>> await client.executions.list(job="triage*", limit=50)  # doctest: +SKIP
        [<AsyncExecution 20261101T093000-0a1b2c3d4e running: 80 of 100 items, 2 failed>]
    """

    def __init__(self, executions: Executions) -> None:
        self._executions = executions

    async def get(self, execution: str | Path) -> AsyncExecution:
        """The execution that is meant; see `Executions.get`."""
        return AsyncExecution.like(await in_thread(self._executions.get, execution))

    async def list(
        self,
        *,
        job: str | None = None,
        status: str | Sequence[str] = (),
        created_after: str | datetime | None = None,
        created_before: str | datetime | None = None,
        limit: int | None = None,
    ) -> _AsyncExecutions:
        """The executions in the store that match, newest first; see `Executions.list`."""
        found = await in_thread(
            self._executions.list, job=job, status=status, created_after=created_after, created_before=created_before, limit=limit
        )
        return [AsyncExecution.like(execution) for execution in found]


class Client:
    """Starts executions in processes of their own, and finds those there are.

    An execution does not depend on the client, nor on the program that made it. Closing the client ends nothing. Many threads may use it.

    Args:
        home: the folder of the store, the list of executions; null: the environment variable `BATCHRUN_HOME`, else `.batchrun` in the
            working directory.
        runs: a folder with executions, besides those in the store.

    Attributes:
        executions: those there are.
        datasets: the named datasets.
        schedules: when which jobs are run.

    Example:
        >>> with batchrun.Client() as client:  # doctest: +SKIP
        ...     execution = client.submit("configs/quickstart.yaml", {"run.parallelism": 64})
        ...     execution.wait(timeout_seconds=300)
        'completed'
    """

    def __init__(self, home: str | Path | None = None, runs: str | Path = "runs") -> None:
        self._home = Path(home or store_home()).absolute()  # a later change of the working directory must not lead elsewhere
        self.executions = Executions(self._home, Path(runs).absolute())
        self.datasets = Datasets(self._home)
        self.schedules = Schedules(self._home)

    def submit(self, job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Execution:
        """Check a job and run it in a process of its own, which goes on when this one ends. Returns at once; see `batchrun.submit`.

        Args:
            job: a job file, or a `Job`; its functions must be importable by their names.
            overrides: values for fields of the job by their path.

        Raises:
            JobError: the job is refused, or has functions that another process cannot import. Nothing was started.
            ExecutionError: the folder of the execution cannot be written to, or no process can be started.

        Example:
            >>> client.submit("configs/quickstart.yaml", {"dataset.limit": 100}).status  # doctest: +SKIP
            'pending'
        """
        return Execution(detached.submit(job, overrides, self._home))

    def refresh(self, job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str] = ()) -> Execution:
        """Run what changed since the last good execution of a job, in a process of its own; see `batchrun.refresh`.

        Returns when it is known what changed: the new execution, or the earlier one when nothing did.

        Args:
            job: a job file, or a `Job` whose dataset is a path or a `Dataset` with an id.
            overrides: values for fields of the job by their path.

        Raises:
            JobError: the job is refused, such as one without `dataset.id`. Nothing was started.
            AlreadyRefreshing: another refresh of the job is at work. Nothing was started.
            ExecutionError: the earlier execution cannot be read, or no process can be started.

        Example:
            >>> client.refresh("configs/quickstart.yaml", {"dataset.id": "id"}).wait()  # doctest: +SKIP
            'completed'
        """
        return Execution(refresh_detached(job, overrides, self._home))

    def close(self) -> None:
        """Give back what the client holds. Executions go on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._home}>"


class AsyncClient:
    """The `Client` of programs with an event loop: the same names, to be awaited.

    What blocks is done in worker threads. Hundreds of executions can be waited for at once.

    Args:
        home: see `Client`.
        runs: see `Client`.

    Attributes:
        executions: those there are.
        datasets: the named datasets.
        schedules: when which jobs are run.

    Example:
        >>> async with batchrun.AsyncClient() as client:  # doctest: +SKIP
        ...     execution = await client.submit("configs/quickstart.yaml")
        ...     await execution.wait(timeout_seconds=300)
        'completed'
    """

    def __init__(self, home: str | Path | None = None, runs: str | Path = "runs") -> None:
        self._client = Client(home, runs)
        self.executions = AsyncExecutions(self._client.executions)
        self.datasets = AsyncDatasets(self._client.datasets)
        self.schedules = AsyncSchedules(self._client.schedules)

    async def submit(self, job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str] = ()) -> AsyncExecution:
        """Check a job and run it in a process of its own; see `Client.submit`."""
        return AsyncExecution.like(await in_thread(self._client.submit, job, overrides))

    async def refresh(self, job: str | Path | Job, overrides: Mapping[str, Any] | Sequence[str] = ()) -> AsyncExecution:
        """Run what changed since the last good execution of a job, in a process of its own; see `Client.refresh`."""
        return AsyncExecution.like(await in_thread(self._client.refresh, job, overrides))

    async def close(self) -> None:
        """Give back what the client holds. Executions go on."""
        self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._client).replace("<Client", "<AsyncClient", 1)
