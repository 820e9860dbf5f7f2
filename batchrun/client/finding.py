"""Finding executions: from what people type, and from what the store knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from batchrun.client.execution import Execution
from batchrun.core.errors import ExecutionError
from batchrun.core.ids import is_execution_id
from batchrun.execution.record import RECORD_FILE, Record
from batchrun.results import RESULT_FILE
from batchrun.store import ExecutionQuery, NoSuchExecution, Store, moment

_SHOWN = 5


def find_folder(text: str, runs: Path, home: Path | None = None, *, are_listed_meant: bool = True) -> Path:
    """The folder of the execution that people mean.

    Args:
        text: a folder; an execution id or the unique beginning of one; or `latest`.
        runs: a folder with executions, besides those in the store.
        home: the folder of the store; null: see `store_home`.
        are_listed_meant: whether it may be one that only the store knows.

    Raises:
        NoSuchExecution: there is none, or there are several; the message names candidates.
        StoreError: the store cannot be read.
    """
    if text and _is_of_execution(Path(text)):
        return Path(text).resolve()
    known = {folder.name: folder.resolve() for folder in folders_in(runs) if is_execution_id(folder.name)}
    if text in known:
        return known[text]
    if are_listed_meant:
        with Store.open(home) as store:
            known = {stored.id: stored.folder for stored in store.executions() if stored.folder.is_dir()} | known
    if not known:
        where = f"there is none in {runs}" + (" and none is listed" if are_listed_meant else "")
        raise NoSuchExecution(f"no execution {text!r}: {where}; name its folder, or the folder that has it with --runs")
    if text == "latest":
        return known[max(known)]
    matching = sorted(id for id in known if text and id.startswith(text))
    if len(matching) == 1:
        return known[matching[0]]
    if matching:
        shown = ", ".join(matching[-_SHOWN:])
        raise NoSuchExecution(f"{text!r} is the beginning of {len(matching)} executions: {shown}; type more of the one you mean")
    raise NoSuchExecution(f"no execution {text!r}; the latest are {', '.join(sorted(known)[-_SHOWN:])}")


def folders_in(runs: Path) -> list[Path]:
    """The folders in a folder that have the name, the record or the result of an execution; none when it cannot be read."""
    with suppress(OSError):
        return [path for path in sorted(runs.iterdir()) if _is_of_execution(path) or (is_execution_id(path.name) and path.is_dir())]
    return []


def _is_of_execution(folder: Path) -> bool:
    with suppress(OSError):  # such as a text that is too long for a path, or a folder of somebody else
        return any((folder / name).is_file() for name in (RECORD_FILE, RESULT_FILE))
    return False


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


def rebuild(runs: Path, on_note: Callable[[str], None], home: Path | None = None) -> int:
    """List all executions anew: those whose folders the store knew, and those in a folder. Returns how many are listed now.

    Args:
        runs: a folder with executions.
        on_note: is told of each folder whose execution cannot be listed.
        home: the folder of the store; null: see `store_home`.

    Raises:
        StoreError: the store cannot be read or written; it is as it was.
    """

    def records() -> Iterator[Mapping[str, Any]]:  # read as they are listed: see `Store.rebuild`
        for folder in folders:
            try:
                yield {**Record.read(folder).content, "folder": str(folder)}  # which may have been moved since
            except ExecutionError as error:
                on_note(str(error))

    with Store.open(home) as store:
        folders = dict.fromkeys([*(stored.folder for stored in store.executions()), *(folder.resolve() for folder in folders_in(runs))])
        return store.rebuild(records(), on_note)
