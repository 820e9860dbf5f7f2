"""Finding executions: from what people type, and from what the store knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path

from batchrun.client.execution import Execution
from batchrun.core.errors import ExecutionError
from batchrun.core.ids import is_execution_id
from batchrun.execution.record import RECORD_FILE
from batchrun.results import RESULT_FILE
from batchrun.store import ExecutionQuery, NoSuchExecution, Store, moment

_SHOWN = 5


def find_folder(text: str, runs: Path, home: Path | None = None) -> Path:
    """The folder of the execution that people mean.

    Args:
        text: a folder; an execution id or the unique beginning of one; or `latest`.
        runs: a folder with executions, besides those in the store.
        home: the folder of the store; null: see `store_home`.

    Raises:
        NoSuchExecution: there is none, or there are several; the message names candidates.
        StoreError: the store cannot be read.
    """
    folder = Path(text)
    if text and any((folder / name).exists() for name in (RECORD_FILE, RESULT_FILE)):
        return folder.resolve()
    with Store.open(home) as store:
        known = {stored.id: stored.folder for stored in store.executions() if stored.folder.is_dir()}
    if runs.is_dir():
        known |= {path.name: path.resolve() for path in runs.iterdir() if is_execution_id(path.name)}
    if not known:
        raise NoSuchExecution(f"no execution {text!r}: there is none in {runs} and none is listed; name its folder, or see batchrun list")
    if text == "latest":
        return known[max(known)]
    matching = sorted(id for id in known if text and id.startswith(text))
    if len(matching) == 1:
        return known[matching[0]]
    if matching:
        raise NoSuchExecution(f"{text!r} is the beginning of {len(matching)} executions: {', '.join(matching[-_SHOWN:])}")
    raise NoSuchExecution(f"no execution {text!r}; the latest are {', '.join(sorted(known)[-_SHOWN:])}")


def find_executions(
    *,
    job: str | None = None,
    status: str | Sequence[str] = (),
    created_after: str | datetime | None = None,
    created_before: str | datetime | None = None,
    limit: int | None = None,
    home: Path | None = None,
) -> list[Execution]:
    """The executions that the store knows and whose folders are there, newest first.

    Args:
        job: the name of their job; `*` stands for any characters.
        status: one of these.
        created_after: from this time on, such as `"7d"`, `"now()-7d"`, `"yesterday"`, `"2026-11-01"` or a datetime.
        created_before: before this time.
        limit: the newest so many.
        home: the folder of the store; null: see `store_home`.

    Raises:
        NotAMoment: a text is no point in time.
        StoreError: the store cannot be read.
    """
    after, before = (moment(time) if isinstance(time, str) else time for time in (created_after, created_before))
    wanted = {status} if isinstance(status, str) else set(status)

    def found() -> Iterator[Execution]:
        for stored in listed:
            with suppress(ExecutionError):  # the folder is gone, or holds no execution any more
                execution = Execution(stored.folder, stored=stored)
                if not wanted or execution.status in wanted:
                    yield execution

    with Store.open(home) as store:
        listed = store.executions(ExecutionQuery(job=job, created_after=after, created_before=before))
        return list(islice(found(), limit))
