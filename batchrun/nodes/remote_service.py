"""A remote service as a node knows it, how its runs are waited for, and the visit that one call pays to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from batchrun.core.job import Resource
from batchrun.flow.retry import RetryPolicy
from batchrun.net.answers import Steps
from batchrun.nodes.remote_parts import Poll
from batchrun.nodes.remote_requests import CompiledRequest
from batchrun.nodes.remote_states import States
from batchrun.workflows.context import Context
from batchrun.workflows.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a service is asked, and what its answers mean.

    Attributes:
        run_id: leads to the id of a run in the answer to its submit.
        result: asks for the output; null: it is in the answer that says that the run has ended.
        output: leads to the output there.
        cancel: null: runs cannot be cancelled.
        events: opens the stream of a run's events; null: it is polled.
        event_state: leads to the state in the data of an event.
    """

    resource: Resource
    submit: CompiledRequest
    run_id: Steps
    status: CompiledRequest
    states: States
    result: CompiledRequest | None
    output: Steps
    cancel: CompiledRequest | None
    events: CompiledRequest | None
    event_state: Steps | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How runs are begun and waited for.

    Attributes:
        timeout_seconds: how long a run may take; null: as long as the item may.
        retry: what becomes of errors while the service is asked.
        is_idempotent: the service takes a submit with the same key only once.
        may_resubmit: a submit whose answer got lost is sent again.
    """

    poll: Poll
    timeout_seconds: float | None
    retry: RetryPolicy
    is_idempotent: bool
    may_resubmit: bool
    max_response_bytes: int


class Visit:
    """One call of the node for one item.

    Args:
        scope: of the item.
        timeout_seconds: how long it may last from its first request on; null: without limit.

    Attributes:
        limit: what the call runs in.
        run_id: of its run, once it is known.
        is_new: this call has begun the run.
        is_submitting: a submit is on its way.
        is_over: the run has ended.
        state: the last one it was seen in.
        interval_seconds: the wait before the service is asked again.
    """

    def __init__(self, scope: Scope, timeout_seconds: float | None) -> None:
        if scope.context is None or scope.call_key is None:
            raise AssertionError("a remote node has a context and a call key")
        self.scope = scope
        self.call_key = scope.call_key
        self.limit = anyio.CancelScope()
        self.run_id: str | None = None
        self.is_new = self.is_submitting = self.is_over = False
        self.state: Any = None
        self.interval_seconds = 0.0
        self._context: Context = scope.context
        self._timeout_seconds = timeout_seconds
        self._is_asking = False
        self._number = 1

    @property
    def last(self) -> Any:
        """What an earlier call of the item has left; null: there was none."""
        return self._context.last_checkpoint

    @property
    def is_cancelled(self) -> bool:
        """Whether the execution is being cancelled, and not only stopped."""
        return self._context.is_cancelled

    def sending(self, *, in_doubt: bool) -> None:
        """The submit is about to be sent."""
        self.is_submitting = True
        self._begin(in_doubt=in_doubt)

    def asking(self) -> Callable[[], None]:
        """The service is to be asked how the run is doing. What this returns is called when the request is about to be sent.

        Waiting for its turn uses up no time: the run may be long done over there.
        """
        if not self._is_asking:
            return partial(self._begin, in_doubt=True)
        left_seconds = self.limit.deadline - anyio.current_time()
        self.limit.deadline = math.inf
        sent = self.scope.queued()

        def sending() -> None:
            self.limit.deadline = anyio.current_time() + left_seconds
            sent()

        return sending

    def began(self, run_id: str, *, is_new: bool) -> None:
        """There is a run."""
        self.run_id, self.is_new, self.is_submitting = run_id, is_new, False
        self._context.record(external_id=run_id)

    async def checkpoint(self, number: int, run_id: str | None, *, is_over: bool = False) -> None:
        """Write down how far the item has come: its n-th run, and the id of that."""
        self._number = number
        await self._context.checkpoint({"run": number, "id": run_id} | ({"is_over": True} if is_over else {}))

    async def checkpoint_over(self) -> None:
        """Write down that the run is not to be followed any more."""
        left = self.last
        await self.checkpoint(left["run"] if left is not None else self._number, self.run_id, is_over=True)

    def next_interval(self, poll: Poll) -> float:
        """The next wait, which grows."""
        seconds = self.interval_seconds or poll.initial_seconds
        self.interval_seconds = min(seconds * poll.multiplier, poll.max_seconds)
        return seconds

    def _begin(self, *, in_doubt: bool) -> None:
        """The first request goes: the clocks of call and item start here."""
        if self._is_asking:
            return
        self._is_asking = True
        self.scope.sending(in_doubt=in_doubt)
        if self._timeout_seconds is not None:
            self.limit.deadline = anyio.current_time() + self._timeout_seconds
