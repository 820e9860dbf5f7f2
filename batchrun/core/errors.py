"""Every error batchrun raises.

    BatchrunError
    ├── JobError                  the job cannot run; carries every problem found          (exit code 2)
    ├── ExecutionError            the run itself broke: disk, reader, writer               (exit code 1)
    └── NodeError                 one call for one item failed; ends as a row, never as a crash
        ├── Timeout               an attempt or an item ran past its deadline
        ├── InvalidValue          a value does not have the declared type, or cannot be written down
        ├── UndefinedReference    a template names something this item does not have
        ├── HttpStatusError       a service answered with an error status
        │   └── QuotaExhausted    nothing is left of what was paid for, or may be used
        ├── TransportError        a service could not be reached, or broke off
        ├── ServiceParked         a service has been out of order for as long as the job allows
        ├── ResponseError         a service answered with something that is not what was asked for
        │   ├── Unsuccessful      what it said is not what the job calls a success
        │   ├── InvalidAnswer     a model's answer does not have the form that the job gives it
        │   ├── AnswerCutOff      a model's answer was cut off at its largest length
        │   └── AnswerRefused     a model, or a filter around it, refused to answer
        ├── RemoteFailed          the run of a remote workflow that did the item's work has failed
        │   ├── RemoteCancelled   it was cancelled, by somebody else
        │   └── RemoteRejected    the service did not take it, or a person there said no
        ├── SubmitInDoubt         a remote run may have begun, and nobody knows its id
        ├── AddressRefused        an address or a path taken from item data is not allowed by the job
        ├── FileMissing           there is no such file
        ├── FileUnreadable        a file is there but cannot be read
        ├── FileTooLarge          a file is larger than the node takes
        ├── WorkerCrashed         the call ended the worker process that it was made in
        ├── WorkerNotStarted      no worker process could be started
        └── OutputTooLarge        the output of a node is larger than the job allows

Raised by user code, any other exception is treated like a retryable `NodeError`, except for the programming
errors listed in `batchrun.flow.retry`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

Outage: TypeAlias = Literal["unreachable", "broken", "silent"]
"""What is known of a service that is out of order: see `NodeError.outage`."""


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
        stops_execution: no other item can fare better, so the execution pauses; the item stays not done.
        outage: the call failed because its service is out of order: a `retry` uses up no attempt. `unreachable`: the request never
            reached it; `broken`: it did, so it may be the request that breaks the service; `silent`: there was no answer in time.
        response_body: the beginning of what the service said, for retry rules; never written down.
        remote_traceback: where it was raised, when that was in another process; for people.
    """

    retryable: bool = True
    ambiguous: bool = False
    http_status: int | None = None
    retry_after_seconds: float | None = None
    stops_execution: bool = False
    outage: Outage | None = None
    response_body: bytes | None = None
    remote_traceback: str | None = None


class Timeout(NodeError):
    """An attempt or an item ran past its deadline."""


class InvalidValue(NodeError):
    """A value does not have the declared type, or has no faithful form in the result."""

    retryable = False


class UndefinedReference(NodeError):
    """A template names a field this item or this node output does not have."""

    retryable = False


class HttpStatusError(NodeError):
    """A service answered with an error status; `location` is the other address that it names, and never written down."""

    location: str | None = None

    def __init__(self, message: str, http_status: int, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds
        self.retryable = http_status in {408, 425, 429} or http_status >= 500


class QuotaExhausted(HttpStatusError):
    """Nothing is left of what was paid for, or may be used.

    No other call fares better, so the execution pauses unless a rule for this error says otherwise.
    """


class TransportError(NodeError):
    """A service could not be reached, or the connection broke.

    Attributes:
        was_sent: the request was on its way, at least in part.
    """

    def __init__(self, message: str, *, ambiguous: bool = False, was_sent: bool = True) -> None:
        super().__init__(message)
        self.ambiguous = ambiguous
        self.was_sent = was_sent


class ServiceParked(NodeError):
    """A service has been out of order for as long as the job allows."""

    stops_execution = True


class ResponseError(NodeError):
    """A service answered, but not in the form that was asked for."""

    retryable = False


class Unsuccessful(ResponseError):
    """A service answered in the right form, and what it said is not what the job calls a success."""


class InvalidAnswer(ResponseError):
    """The answer of a model does not have the form that the job gives it, also after it was told so."""


class AnswerCutOff(ResponseError):
    """The answer of a model was cut off because it reached its largest length."""


class AnswerRefused(ResponseError):
    """A model refused to answer, or a content filter refused the question or the answer."""


class RemoteFailed(NodeError):
    """The run of a remote workflow has failed. The same run again costs the same again: tried again only if a rule says so."""

    retryable = False


class RemoteCancelled(RemoteFailed):
    """The run of a remote workflow was cancelled, by somebody else."""


class RemoteRejected(RemoteFailed):
    """A service did not take a run, or a person there has rejected it."""


class SubmitInDoubt(NodeError):
    """A run may have begun at a service, and its id never came: whoever submits again may pay for it twice."""

    retryable = False
    ambiguous = True


class AddressRefused(NodeError):
    """An address or a path that comes from item data is not allowed by the job."""

    retryable = False


class FileMissing(NodeError):
    """There is no such file."""

    retryable = False


class FileUnreadable(NodeError):
    """A file is there but cannot be read."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class FileTooLarge(NodeError):
    """A file is larger than the node takes."""

    retryable = False


class OutputTooLarge(NodeError):
    """The output of a node is larger than the job allows."""

    retryable = False

    def __init__(self, size_bytes: int, max_output_bytes: int) -> None:
        super().__init__(
            f"the output has {size_bytes:,} bytes as JSON, max_output_bytes is {max_output_bytes:,}; "
            "return less, write large data to a file and return its path, or raise max_output_bytes"
        )


class WorkerCrashed(NodeError):
    """A call ended the worker process that it was made in. It would do so again: tried again only if a rule says so.

    Attributes:
        exit_code: of the process; negative: the number of the signal that ended it.
    """

    retryable = False

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class WorkerNotStarted(NodeError):
    """A worker process could not be started: its function cannot be imported there, or setting up its class failed."""


class ReplayMismatch(NodeError):
    """A Python workflow did something else when it was run again than it did before it was interrupted."""

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
