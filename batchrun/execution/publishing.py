"""Publishing the files of an execution in an object store: at its end, or whenever somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from batchrun.core.addresses import folder_problem
from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.text import one_line
from batchrun.execution.record import RECORD_FILE, Record
from batchrun.net.objects import NOT_INSTALLED, is_installed
from batchrun.results import Journal
from batchrun.results.published import publish_files

_UNTOLD = "it goes on, or its process was ended before it had told how that went"


def place_of(prefix: str, execution_id: str) -> str:
    """The address that the files of an execution are below."""
    return f"{prefix.rstrip('/')}/{execution_id}"


def unpublished(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where the files of an execution should be and why they are not there; null when nothing is wrong."""
    told = record.get("publish")
    if not told or told.get("published_at") is not None:
        return None
    return told["url"], told.get("error") or _UNTOLD


def publish_ended(record: Record, prefix: str | None, note: Callable[[str], None], go_on: Callable[[], None]) -> None:
    """Publish an execution that this process has run, if its job wants that and it is completed.

    That never breaks a run, whose result is complete: what goes wrong is noted and written down.

    Args:
        record: of the execution, as it ended.
        prefix: `output.publish` of the job.
        note: is told what happens.
        go_on: is called now and then; an `ExecutionError` ends the publishing.
    """
    if prefix is None or record.status != "completed":
        return
    url = place_of(prefix, record.id)
    _tell(record, url)
    note(f"publishing to {url}")
    try:
        at = _publish(record, url, go_on)
    except (ExecutionError, OSError) as error:
        reason = _reason(error)
        _tell(record, url, error=reason)
        note(f"not published to {url}: {reason}")
    else:
        _tell(record, url, published_at=at)


def publish(folder: Path, to: str | None = None) -> str:
    """Publish an execution that no process runs, again or for the first time.

    Args:
        folder: its folder.
        to: the address that its files are put below, in a folder named by its id; null: `output.publish` of its job.

    Returns:
        The address of that folder.

    Raises:
        JobError: the address is refused, or the library is missing.
        ExecutionError: it has no result, a process runs it, no address is known, or the store does not take the files.
    """
    if to is not None and (wrong := folder_problem(to)) is not None:
        raise JobError([f"--to {wrong}"])
    if not is_installed():
        raise JobError([f"publishing {NOT_INSTALLED}"])
    Record.read(folder)  # a folder of something else is left as it is
    with closing(Journal(folder)):  # nothing changes meanwhile
        record = Record.read(folder)
        own = ((record.content.get("job") or {}).get("output") or {}).get("publish")
        prefix = to or own
        if prefix is None:
            raise ExecutionError(f"the job of {record.id} has no output.publish: say where, with --to s3://bucket/folder")
        if record.content.get("totals") is None or record.status in ("pending", "running", "finalizing"):
            raise ExecutionError(f"{folder} has no result of now to publish: its status is {record.status}; resume it first")
        url = place_of(prefix, record.id)
        is_told = url in {place_of(own or "", record.id), (record.content.get("publish") or {}).get("url")}
        try:
            at = _publish(record, url, lambda: None)
        except OSError as error:
            reason = _reason(error)
            if is_told:  # else what is known of another place is still so
                _tell(record, url, error=reason)
            raise ExecutionError(f"{record.id} was not published to {url}: {reason}") from error
        _tell(record, url, published_at=at)
        return url


def _publish(record: Record, url: str, go_on: Callable[[], None]) -> str:
    """Copy the files; returns when that was. The copy of the record says what it will say here when all has gone well."""
    at = datetime.now(UTC).isoformat()
    content = {**record.content, "publish": {"url": url, "published_at": at}}
    copied = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    publish_files(record.folder, url, {RECORD_FILE: copied}, go_on)
    return at


def _tell(record: Record, url: str, *, published_at: str | None = None, error: str | None = None) -> None:
    told = {"url": url, "published_at": published_at} | ({} if error is None else {"error": error})
    try:
        record.update(publish=told)
    except ExecutionError:  # the disk is full; whoever looks at this process's execution is told all the same
        record.content.update(publish=told)


def _reason(error: Exception) -> str:
    return one_line(str(error).partition("\n")[0], 600)
