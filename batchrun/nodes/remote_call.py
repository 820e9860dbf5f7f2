"""The calls of one `remote` node: a run is begun once, followed to its end, and cancelled when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import anyio
import httpx

from batchrun.core.errors import HttpStatusError, NodeError, RemoteFailed, ResponseError, SubmitInDoubt, Timeout, TransportError
from batchrun.flow.retry import CallHistory, is_throttling
from batchrun.net.answers import read_json, taken
from batchrun.net.client import SLOT, HttpAnswer, HttpClient
from batchrun.net.clients import client_of
from batchrun.net.failures import describe
from batchrun.nodes.remote_events import Ear
from batchrun.nodes.remote_service import Manner, Service, Visit
from batchrun.workflows.decisions import DecidedElsewhere, StoppedAtRest
from batchrun.workflows.scope import Scope

_CANCEL_SECONDS = 5.0
_CANCEL_ATTEMPTS = 3
_MOST_UNREADABLE = 5  # answers in a row that are not what they should be; a proxy may answer for a service that is away
_MOST_REMEMBERED = 100_000
_CALL_KEY = "idempotency-key"


class RemoteCall:
    """Runs one remote workflow for each item.

    A checkpoint says how far it has come: `{"run": n, "id": null}` before the n-th run is submitted, with its id once there is one,
    with `is_over` when it was refused, or cancelled because the execution was.

    Args:
        service: what is asked, and what the answers mean.
        manner: how runs are waited for.
    """

    def __init__(self, service: Service, manner: Manner) -> None:
        self.service = service
        self._manner = manner
        self._ended: OrderedDict[str, None] = OrderedDict()  # call keys of which a run has failed here: who calls again wants another
        self._client: HttpClient

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold connections open."""
        async with client_of(self.service.resource) as self._client:
            yield

    async def __call__(self, scope: Scope) -> Any:
        """The output of the run for one item.

        Raises:
            NodeError: the run has not ended well, or it is not known whether there is one.
            DecidedElsewhere: it waits for a person.
        """
        visit = Visit(scope, self._manner.timeout_seconds)
        try:
            with visit.limit:
                run_id = await self._begun(visit)
                return await self._followed(visit, run_id)
        except (asyncio.CancelledError, StoppedAtRest):
            await self._left(visit)
            raise
        except NodeError as error:
            if isinstance(error, RemoteFailed | SubmitInDoubt):
                self._remember(visit)
            raise
        raise await self._timed_out(visit)

    async def _begun(self, visit: Visit) -> str:
        """The id of the item's run, which is begun where there is none.

        Raises:
            SubmitInDoubt: there may be one, and its id is not known.
        """
        left = visit.last
        wants_another = self._ended.pop(visit.call_key, _NOTHING) is not _NOTHING
        if left is not None and not wants_another and not left.get("is_over"):
            if left["id"] is not None:
                visit.began(left["id"], is_new=False)
                return str(left["id"])
            if not self._manner.may_resubmit:
                raise SubmitInDoubt(f"an earlier process ended while it submitted this item to {self._address}: {_ADVICE}")
        is_same = left is None or (left["id"] is None and not wants_another)
        number = (left["run"] if left is not None else 1) + (not is_same)
        return await self._submitted(visit, number)

    async def _submitted(self, visit: Visit, number: int) -> str:
        service = self.service
        # A service that honours the key takes a submit that is sent again for the same one; another run has a key of its own.
        key = visit.call_key if number == 1 else f"{visit.call_key}-{number}"
        request = service.submit.build(self._client, visit.scope, None, {_CALL_KEY: key})
        try:
            answer = await self._client.send(
                request,
                idempotent=self._manner.is_idempotent,
                max_response_bytes=self._manner.max_response_bytes,
                on_send=lambda: visit.sending(in_doubt=not self._manner.may_resubmit),
                prepare=lambda: visit.checkpoint(number, None),
            )
        except NodeError as error:
            raise await self._not_submitted(visit, number, error) from error
        run_id = str(self._value(request, answer, service.run_id, "the id of the run"))
        visit.began(run_id, is_new=True)
        await visit.checkpoint(number, run_id)
        return run_id

    async def _not_submitted(self, visit: Visit, number: int, error: NodeError) -> NodeError:
        """What a submit that failed ends as: it may be sent again only where surely no run has begun, or the job says so."""
        if not visit.is_submitting:
            return error
        status = error.http_status
        is_refused = status is not None and (status < 500 or is_throttling(error))
        if is_refused or (isinstance(error, TransportError) and not error.was_sent):
            await visit.checkpoint(number, None, is_over=True)
            return error
        if self._manner.may_resubmit:
            error.ambiguous = False
            return error
        doubt = SubmitInDoubt(f"{error}; {_ADVICE}")
        doubt.http_status, doubt.response_body, doubt.outage = status, error.response_body, error.outage
        return doubt

    async def _followed(self, visit: Visit, run_id: str) -> Any:
        """The output of a run, once it has ended well."""
        service, poll = self.service, self._manner.poll
        status = service.status.build(self._client, visit.scope, run_id, {})
        wait = poll.initial_seconds if visit.is_new else 0.0
        visit.interval_seconds = poll.initial_seconds
        ear = self._ear(visit, run_id)
        listening: AbstractAsyncContextManager[None] = ear.listening(poll) if ear is not None else nullcontext()
        async with listening:
            while True:
                with visit.scope.resting():
                    await (anyio.sleep(wait) if ear is None else ear.wait(poll.max_seconds if ear.is_open else wait))
                answer = await self._asked(visit, status, lambda answer: (service.states.of(answer, status), answer))
                (state, meaning), said = answer
                visit.state = state
                if meaning != "running":
                    break
                wait = visit.next_interval(poll)
        if meaning == "waiting":
            raise DecidedElsewhere(service.states.shown(run_id, state, said, status))
        visit.is_over = True
        if meaning != "completed":
            raise service.states.failure(run_id, state, meaning, said, status)
        return await self._output(visit, run_id, said, status)

    async def _output(self, visit: Visit, run_id: str, said: Any, status: httpx.Request) -> Any:
        service = self.service
        if service.result is None:
            return taken(said, service.output, status)
        request = service.result.build(self._client, visit.scope, run_id, {})
        return await self._asked(visit, request, lambda answer: taken(answer, service.output, request))

    def _ear(self, visit: Visit, run_id: str) -> Ear | None:
        service = self.service
        if service.events is None:
            return None
        return Ear(self._client, service.events.build(self._client, visit.scope, run_id, {}), service.event_state, service.states)

    async def _asked(self, visit: Visit, request: httpx.Request, read: Callable[[Any], Any]) -> Any:
        """What the service says, however often it stumbles: a run that goes on over there is not given up for that.

        Raises:
            NodeError: the service refuses to say, what it says cannot be read, or a retry rule says `fail` or `stop`.
        """
        unreadable = 0
        while True:
            try:
                with anyio.CancelScope() as patience:
                    answer = await self._client.send(
                        _again(request),
                        idempotent=True,
                        max_response_bytes=self._manner.max_response_bytes,
                        on_send=partial(_sent, visit.asking(), patience, self._manner.poll.answer_seconds),
                    )
                    return read(read_json(request, answer))
                asked_seconds = 0.0  # no answer: the service is asked again
            except ResponseError:
                unreadable += 1
                if unreadable > _MOST_UNREADABLE:
                    raise
                asked_seconds = 0.0
            except (HttpStatusError, TransportError) as error:
                if self._manner.retry.decide(error, CallHistory(0), lambda: 0.0).action in ("fail", "stop"):
                    raise
                asked_seconds = error.retry_after_seconds or 0.0
            with visit.scope.resting():
                await anyio.sleep(max(visit.next_interval(self._manner.poll), asked_seconds))

    def _value(self, request: httpx.Request, answer: HttpAnswer, steps: tuple[str | int, ...], what: str) -> Any:
        """What the answer to a submit holds.

        Raises:
            ResponseError: it cannot be read, and may be submitted again.
            SubmitInDoubt: it is not there: a run has begun all the same.
        """
        is_read = False
        try:
            read, is_read = read_json(request, answer), True
            value = taken(read, steps, request)
        except ResponseError as error:
            if self._manner.may_resubmit and not is_read:  # what was cut off on the way is there next time
                error.retryable = True
                raise
            raise SubmitInDoubt(f"{error}; {_ADVICE}") from error
        if not isinstance(value, str | int) or value == "":
            raise SubmitInDoubt(f"{describe(request)} answered {answer.status} without {what}, which is {value!r} there; {_ADVICE}")
        return value

    async def _left(self, visit: Visit) -> None:
        """The call is being given up: end its run where nobody will come back for it.

        Raises:
            Timeout: the item's time is over.
        """
        is_late = visit.scope.is_late()
        if visit.run_id is None or visit.is_over or not (is_late or visit.is_cancelled):
            return
        with anyio.CancelScope(shield=True):
            what = await self._cancelled(visit)
            if not is_late:
                await visit.checkpoint_over()  # whoever resumes begins another one
        if is_late:
            error = Timeout(f"the item ran longer than item_timeout_seconds; {what}")
            error.retryable = False
            raise error

    async def _timed_out(self, visit: Visit) -> NodeError:
        self._remember(visit)
        seconds = f"{self._manner.timeout_seconds:g}"
        if visit.run_id is None:
            if visit.is_submitting and not self._manner.may_resubmit:
                return SubmitInDoubt(f"{self._address} did not answer the submit within timeout_seconds: {seconds}; {_ADVICE}")
            return Timeout(f"the run could not be submitted within timeout_seconds: {seconds}")
        what = await self._cancelled(visit)
        error = Timeout(f"the run took longer than timeout_seconds: {seconds}, and its last state was {visit.state!r}; {what}")
        error.ambiguous = True  # what it has done is done: another run is begun only where a rule of the node says so
        return error

    async def _cancelled(self, visit: Visit) -> str:
        """Cancel the item's run, as well as that can be done, and say what came of it."""
        cancel, name, run_id = self.service.cancel, f"run {visit.run_id}", visit.run_id
        if cancel is None:
            return f"{name} goes on: there is no cancel request"
        failed: NodeError | None = None
        with anyio.move_on_after(_CANCEL_SECONDS):
            for _ in range(_CANCEL_ATTEMPTS):
                try:
                    request = cancel.build(self._client, visit.scope, run_id, {})
                    del request.extensions[SLOT]  # its item is over, and so may be the execution: it waits for its turn all the same
                    await self._client.send(request, idempotent=True)
                except NodeError as error:
                    failed = error
                    if not error.retryable:
                        break
                else:
                    return f"{name} was cancelled"
                await anyio.sleep(self._manner.poll.initial_seconds)
        because = str(failed) if failed is not None else f"no answer within {_CANCEL_SECONDS:g} s"
        return f"{name} may go on, cancelling it failed: {because}"

    @property
    def _address(self) -> str:
        return self.service.resource.base_url

    def _remember(self, visit: Visit) -> None:
        self._ended[visit.call_key] = None
        if len(self._ended) > _MOST_REMEMBERED:
            self._ended.popitem(last=False)


def _sent(asking: Callable[[], None], patience: anyio.CancelScope, seconds: float) -> None:
    asking()
    patience.deadline = anyio.current_time() + seconds


def _again(request: httpx.Request) -> httpx.Request:
    """The same request, to be sent once more."""
    return httpx.Request(request.method, request.url, headers=request.headers.raw, stream=request.stream, extensions=request.extensions)


_NOTHING = object()
_ADVICE = (
    "a run may have begun there whose id is not known. Look there; batchrun retry submits the item again, on_lost_submit: resubmit "
    "always does"
)
