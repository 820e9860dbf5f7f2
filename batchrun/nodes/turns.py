"""Calls of functions that go through the gate of a resource, as requests to it do."""

from __future__ import annotations

from types import TracebackType

from batchrun.core.errors import HttpStatusError, NodeError
from batchrun.core.job import Resource
from batchrun.net.gate import Gate, Turn
from batchrun.net.shared import gate_of
from batchrun.workflows.scope import Scope


class ResourceTurn:
    """The turn of one call.

    Args:
        resource: whose limits it keeps.
        scope: of the call.
    """

    def __init__(self, resource: Resource, scope: Scope) -> None:
        self._resource = resource
        self._scope = scope
        self._gate: Gate
        self._turn: Turn

    async def __aenter__(self) -> None:
        """Wait for it.

        Raises:
            ServiceParked: the service has been out of order for too long.
        """
        self._gate = gate_of(self._resource)
        self._turn = await self._gate.enter(slot=self._scope.slot)
        self._scope.sending(in_doubt=False)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Tell how the call has ended."""
        failure = _failure(error) if isinstance(error, Exception) else None
        self._gate.leave(self._turn, failure, is_cut_off=error is not None and failure is None)


def _failure(error: Exception) -> NodeError:
    """What the exception of a function says of the service: by its `http_status` and `retry_after_seconds`, as with retry rules."""
    raised = error.__cause__ or error  # in a thread of its own: the engine's error has the function's as its cause
    if isinstance(raised, NodeError):
        return raised
    status, seconds = getattr(raised, "http_status", None), getattr(raised, "retry_after_seconds", None)
    if isinstance(status, int):
        return HttpStatusError(
            f"the function has failed with status {status}", status, seconds if isinstance(seconds, int | float) else None
        )
    return NodeError("the function has failed")
