"""What the options of a `remote` node say about the service: the requests that begin, ask for and end a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from batchrun.core.checks import above, at_least, problem, refuse
from batchrun.net.answers import steps_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRequest:
    """A request to the service. Texts are templates; what is left out is as the preset says.

    `{workflow}`, `{version}`, `{payload}`, `{api_key}` and, once there is one, `{run_id}` stand for these. A header, a field of
    query or of the body in which one of them is null is left out.
    """

    method: str | None = None
    """GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS."""
    path: str | None = None
    """Appended to the resource's base_url. What is put in is percent-encoded and cannot leave its segment."""
    query: dict[str, Any] | None = None
    """Appended to the address; nulls are left out."""
    headers: dict[str, Any] | None = None
    """Sent besides those of the resource; nulls are left out."""
    json: Any = None
    """A JSON body."""
    text: str | None = None
    """A text body in UTF-8."""
    form: dict[str, Any] | None = None
    """A form body; nulls are left out."""
    multipart: dict[str, Any] | None = None
    """A form body with files: inputs that are files, and outputs of `file` nodes are sent as files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit(RemoteRequest):
    """The request that begins a run."""

    run_id: str | None = None
    """The path of the run's id in the answer: `id`, `data.run.id`."""
    json_text: str | None = None
    """A field of the JSON body that must be text: what is no text is sent as JSON in it."""

    def __post_init__(self) -> None:
        refuse(_path("run_id", self.run_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(RemoteRequest):
    """The request that asks how a run is doing, and what its states mean.

    States are compared exactly; one that is in no list means that the run goes on.
    """

    state: str | None = None
    """The path of the state in the answer: `status`, `execution.status`."""
    completed: tuple[str | int | bool, ...] | None = None
    """States of a run that has ended well."""
    failed: tuple[str | int | bool, ...] | None = None
    """States of a run that has failed: the item fails with `RemoteFailed`."""
    cancelled: tuple[str | int | bool, ...] | None = None
    """States of a run that somebody has cancelled: the item fails with `RemoteCancelled`."""
    rejected: tuple[str | int | bool, ...] | None = None
    """States of a run that the service did not take, or a person has rejected there: the item fails with `RemoteRejected`."""
    waiting: tuple[str | int | bool, ...] | None = None
    """States of a run that waits for a person: the item is parked as `waiting`, and asks again when the execution is resumed."""
    error: str | None = None
    """The path of what went wrong in the answer about a run that failed."""
    question: str | None = None
    """The path of what the person is asked, in the answer about a run that waits."""

    def __post_init__(self) -> None:
        refuse(*(_path(name, getattr(self, name)) for name in ("state", "error", "question")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(RemoteRequest):
    """Where the output of a run that has ended well is; without a path: in the answer that said so."""

    output: str | None = None
    """The path of the output in the answer: `output`, `results[0].output`; null: the whole answer."""

    def __post_init__(self) -> None:
        refuse(_path("output", self.output))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(RemoteRequest):
    """The request that ends a run: sent when `timeout_seconds` or the item's time is over, and when the execution is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events(RemoteRequest):
    """A stream of server-sent events about a run.

    An event that tells of a state in which the run does not go on makes the node ask at once; while the stream is open, it asks every
    `poll.max_seconds` besides. When the stream breaks off it is opened again; where there is none, the node polls.
    """

    state: str | None = None
    """The path of the state in the data of an event; events without one are passed over. Null: each event makes the node ask."""

    def __post_init__(self) -> None:
        refuse(_path("state", self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """How often the service is asked how a run is doing."""

    initial_seconds: float = 1.0
    """The wait before it is asked for the first time."""
    max_seconds: float = 30.0
    """The longest wait."""
    multiplier: float = 1.5
    """What the wait grows by each time."""
    answer_seconds: float = 30.0
    """How long the service may take to answer; then it is asked again."""

    def __post_init__(self) -> None:
        most = self.max_seconds < self.initial_seconds
        refuse(
            above(0, initial_seconds=self.initial_seconds, max_seconds=self.max_seconds, answer_seconds=self.answer_seconds),
            at_least(1, multiplier=self.multiplier),
            problem("max_seconds", f"must be ≥ initial_seconds ({self.initial_seconds:g}), got {self.max_seconds:g}" if most else None),
        )


def _path(name: str, path: str | None) -> Any:
    wrong = path is not None and steps_of(path) is None
    return problem(name, f"is not a path such as data.items[0]: {path!r}" if wrong else None)
