"""What the answer about a run says: whether it goes on, waits for a person, or how it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import httpx

from batchrun.core.errors import NodeError, RemoteCancelled, RemoteFailed, RemoteRejected, ResponseError
from batchrun.net.answers import Steps, steps_of, taken
from batchrun.nodes.remote_parts import Status
from batchrun.workflows.encoding import encode

Meaning: TypeAlias = Literal["running", "completed", "failed", "cancelled", "rejected", "waiting"]

NAMED: tuple[Meaning, ...] = ("completed", "failed", "cancelled", "rejected", "waiting")
"""What a list of states can say. States in no list mean that the run goes on."""

_ERRORS: dict[Meaning, type[NodeError]] = {"failed": RemoteFailed, "cancelled": RemoteCancelled, "rejected": RemoteRejected}
_TEXT_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """What the states of a service mean.

    Attributes:
        state: leads to the state in an answer.
        error: leads to what went wrong; null: it does not say.
        question: leads to what a person is asked; null: it does not say.
        meanings: of the states it knows, compared exactly.
    """

    state: Steps
    error: Steps | None
    question: Steps | None
    meanings: dict[Any, Meaning]

    def of(self, answer: Any, request: httpx.Request) -> tuple[Any, Meaning]:
        """The state that an answer tells of, and what it means.

        Raises:
            ResponseError: there is none in it.
        """
        state = taken(answer, self.state, request)
        return state, self.meaning(state)

    def meaning(self, state: Any) -> Meaning:
        """What a state means; one that nobody has named means that the run goes on."""
        return self.meanings.get(_key(state), "running") if isinstance(state, str | int) else "running"

    def failure(self, run_id: str, state: Any, meaning: Meaning, answer: Any, request: httpx.Request) -> NodeError:
        """The error of an item whose run has ended without an output."""
        said = _optional(answer, self.error, request)
        text = said if isinstance(said, str) else None if said is None else encode(said).decode()
        because = f": {text[:_TEXT_CHARACTERS]}" if text else ", and the service does not say why"
        return _ERRORS[meaning](f"run {run_id} ended as {state}{because}")

    def shown(self, run_id: str, state: Any, answer: Any, request: httpx.Request) -> dict[str, Any]:
        """What people see of a run that waits for a person."""
        asked = _optional(answer, self.question, request)
        return {"run_id": run_id, "state": state} | ({} if asked is None else {"question": asked})


def states_of(status: Status) -> States:
    """What a job, or a preset, says of the states of a service; the mistakes in it were reported before."""
    return States(
        state=steps_of(status.state or "") or (),
        error=steps_of(status.error) if status.error is not None else None,
        question=steps_of(status.question) if status.question is not None else None,
        meanings={_key(state): meaning for meaning in NAMED for state in getattr(status, meaning) or ()},
    )


def _key(state: Any) -> Any:
    return (type(state), state)  # True is not 1


def _optional(answer: Any, steps: Steps | None, request: httpx.Request) -> Any:
    """What is at a path; null where there is nothing."""
    try:
        return taken(answer, steps, request) if steps is not None else None
    except ResponseError:
        return None
