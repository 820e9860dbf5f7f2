"""Every error batchrun raises.

    BatchrunError
    ├── JobError                  the job cannot run; carries every problem found          (exit code 2)
    ├── ExecutionError            the run itself broke: disk, reader, writer               (exit code 1)
    └── NodeError                 one call for one item failed; ends as a row, never as a crash
        ├── Timeout               an attempt or an item ran past its deadline
        ├── InvalidValue          a value does not have the declared type, or cannot be written down
        ├── UndefinedReference    a template names something this item does not have
        ├── HttpStatusError       a service answered with an error status
        ├── TransportError        a service could not be reached, or broke off
        ├── ResponseError         a service answered with something that is not what was asked for
        └── AddressRefused        an address taken from item data is not allowed by the job

Raised by user code, any other exception is treated like a retryable `NodeError`, except for the programming
errors listed in `batchrun.flow.retry`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class BatchrunError(Exception):
    """The root of every error raised by batchrun."""


class Problem(NamedTuple):
    """One mistake in a job.

    `path` leads to the value (`("workflow", "nodes", 1, "retry", "max_attempts")`); `location` is `file:line:column`
    once a file is known.
    """

    path: tuple[str | int, ...]
    message: str
    location: str | None = None

    def __str__(self) -> str:
        where = dotted(self.path)
        return " ".join(part for part in (self.location, f"{where}:" if where else "", self.message) if part)


class JobError(BatchrunError):
    """The job is refused before its first item. `problems` holds every mistake found."""

    def __init__(self, problems: Iterable[Problem | str]) -> None:
        self.problems: tuple[Problem, ...] = tuple(Problem((), problem) if isinstance(problem, str) else problem for problem in problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class ExecutionError(BatchrunError):
    """The run itself broke. What finished before is kept; the message says where."""


class NodeError(BatchrunError):
    """A node call failed for one item.

    Attributes:
        retryable: whether trying the same call again can help.
        ambiguous: the request was sent and no answer came, so the service may have done the work.
        http_status: the status code the service answered with.
        retry_after_seconds: how long the service asked to be left alone.
    """

    retryable: bool = True
    ambiguous: bool = False
    http_status: int | None = None
    retry_after_seconds: float | None = None


class Timeout(NodeError):
    """An attempt or an item ran past its deadline."""


class InvalidValue(NodeError):
    """A value does not have the declared type, or has no faithful form in the result."""

    retryable = False


class UndefinedReference(NodeError):
    """A template names a field this item or this node output does not have."""

    retryable = False


class HttpStatusError(NodeError):
    """A service answered with an error status."""

    def __init__(self, message: str, http_status: int, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds
        self.retryable = http_status in {408, 425, 429} or http_status >= 500


class TransportError(NodeError):
    """A service could not be reached, or the connection broke."""

    def __init__(self, message: str, *, ambiguous: bool = False) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous


class ResponseError(NodeError):
    """A service answered, but not in the form that was asked for."""

    retryable = False


class AddressRefused(NodeError):
    """An address that comes from item data is not allowed by the job."""

    retryable = False


class ErrorRecord(NamedTuple):
    """Why an item or a node execution failed: the `error` column of the result."""

    type: str
    message: str
    node_id: str | None
    retryable: bool
    http_status: int | None
    traceback: str | None


def dotted(path: Sequence[str | int]) -> str:
    """`("workflow", "nodes", 1, "id")` as people write it: `workflow.nodes[1].id`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def known_values(name: str, known: Iterable[str], *, kind: str) -> str:
    """The end of an "unknown …" message: the nearest name, else what there is.

    Example:
        >>> known_values("tiem", ["time", "name"], kind="columns")
        'did you mean "time"?'
        >>> known_values("zzz", ["time", "name"], kind="columns")
        'columns: name, time'
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if nearest:
        return f'did you mean "{nearest[0]}"?'
    if not names:
        return f"there are no {kind}"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"{kind}: {shown}"
