"""Micro-batching: calls of many open items to one node, made as one call.

An item that comes to such a node joins those that wait there, and gives its slot back. A call is made when there are
`max_items`, when the first of them has waited for `max_wait_ms`, or when nothing else can run. When it fails in a way that
may pass, all its items are sent back, with the same backoff, so that they come back together. Any other failure is narrowed
down: the call is made again for either half, and so on, until each item has an output or an error of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from batchrun.core.errors import InvalidValue, Timeout
from batchrun.core.job import Batch
from batchrun.engine.attempt import Outcome
from batchrun.engine.batch_calls import LoopCalls, ThreadCalls
from batchrun.engine.counting import BudgetUsedUpError, Limits
from batchrun.engine.failures import asked
from batchrun.engine.members import Member, SharedCall
from batchrun.flow.retry import CallHistory
from batchrun.workflows.decisions import StoppedAtRest
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope

_SHORTEST_SECONDS = 0.001  # deadlines closer to one another are one


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPorts:
    """What the batchers of one execution share.

    Attributes:
        limits: what calls are counted against; null: nothing.
        clock: that of the engine.
        on_abandoned: called when a call was given up that cannot be ended.
    """

    limits: Limits | None
    clock: Callable[[], float]
    on_abandoned: Callable[[Step], None]


class Batcher:
    """Makes the calls of one node. All methods are called on the event loop.

    Args:
        step: the node.
        batch: how its calls are put together.
        call_many: makes one call.
        max_calls: the most calls at once.
        ports: what all batchers share.

    Attributes:
        step: the node.
        made_calls: calls made so far.
        called_items: the sum of their sizes.
    """

    def __init__(self, step: Step, batch: Batch, call_many: Callable[[Sequence[Scope]], Any], max_calls: int, ports: BatchPorts) -> None:
        self._max_calls = max_calls
        self.made_calls = self.called_items = 0
        self.step = step
        self._batch = batch
        self._call_many = call_many
        self._ports = ports
        self._chance = random.random
        self._patient = replace(step.retry, max_throttled_seconds=None)
        self._loop = asyncio.get_running_loop()
        self._places: ThreadCalls | LoopCalls = LoopCalls() if step.call_waits else ThreadCalls(step.id)
        self._queue: deque[Member] = deque()
        self._again: deque[list[Member]] = deque()  # parts of calls that failed
        self._calls: set[SharedCall] = set()
        self._is_due = False  # what is queued need not wait for more
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_calling(self) -> bool:
        """Whether a call is being made."""
        return bool(self._calls)

    @property
    def abandoned_count(self) -> int:
        """Threads of calls that were given up and have still not come back."""
        return self._places.abandoned_count

    @property
    def members(self) -> list[Member]:
        """The items that wait, in a call or before one."""
        groups = [[*self._queue], *self._again, *(call.members for call in self._calls)]
        return [member for members in groups for member in members if not member.is_done]

    async def call(self, scope: Scope) -> Any:
        """The output for one item, of a call that is made for others, too."""
        answer: asyncio.Future[None] = self._loop.create_future()

        def tell(_member: Member) -> None:
            if not answer.done():
                answer.set_result(None)

        member = Member(scope, self._loop.time(), tell)
        self.join([member])
        try:
            async with scope.slot.parked():
                await answer
        finally:
            if not member.is_done:  # the item was stopped
                member.is_done = True
                self.leave(member)
        return member.taken()

    def join(self, members: Sequence[Member]) -> None:
        """Items come, and wait for their outputs."""
        self._queue.extend(members)
        for member in members:
            if member.attempt.ends_in_queue:
                self._loop.call_later(member.attempt.item_ends_at - self._ports.clock(), self._expire, member)
        self._send()

    def send_waiting(self) -> None:
        """Nothing else can run: wait for no more items."""
        self._is_due = bool(self._queue)
        self._send()

    def resize(self, max_calls: int) -> None:
        """Make more or fewer calls at once, from now on."""
        self._max_calls = max_calls
        self._send()

    async def close(self) -> None:
        """End what can be ended. No item waits any more."""
        self._stop_timer()
        await self._places.close()

    def leave(self, member: Member) -> None:
        """An item has gone without an output. A call goes on for the others, as long as there are any."""
        call = member.call
        if call is None:
            self._queue.remove(member)
            if not self._queue:
                self._is_due = False
                self._stop_timer()
        elif call in self._calls and not call.waiting:
            self._give_up(call, asyncio.CancelledError())

    def _send(self) -> None:
        """Make as many calls as there can be."""
        while len(self._calls) < self._max_calls and (members := self._next()):
            self._begin(members)
        if self._timer is None and self._queue and not self._is_due:
            left = self._queue[0].joined_at + self._batch.max_wait_ms / 1e3 - self._loop.time()
            self._timer = self._loop.call_later(max(left, 0.0), self._waited)

    def _next(self) -> list[Member]:
        while self._again:
            members = [member for member in self._again.popleft() if not member.is_done]
            if members:
                return members
        if len(self._queue) < self._batch.max_items and not self._is_due:
            return []
        self._is_due = False
        self._stop_timer()
        return [self._queue.popleft() for _ in range(min(len(self._queue), self._batch.max_items))]

    def _waited(self) -> None:
        self._timer = None
        self.send_waiting()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self, members: list[Member]) -> None:
        limits = self._ports.limits
        refusal = limits.spending.reserve() if limits is not None else None
        if refusal is not None:
            for member in members:
                member.fail(BudgetUsedUpError(refusal))
            return
        if limits is not None:
            members[0].scope.expecting = limits.expecting
        self.made_calls += 1
        self.called_items += len(members)
        now, seconds = self._ports.clock(), self.step.timeout_seconds
        call = SharedCall(members, math.inf if seconds is None else now + seconds)
        self._calls.add(call)
        for member in members:
            member.call = call
            member.attempt.sent(now)
        make = partial(self._call_many, [member.scope for member in members])
        call.running = self._places.begin(make, partial(self._outputs, len(members)), partial(self._ended, call))
        self._watch(call, now)

    def _watch(self, call: SharedCall, now: float) -> None:
        # One timer for all: those of the items are as good as never needed, and one for each is dear.
        ends_at = min([call.ends_at, *(member.attempt.item_ends_at for member in call.waiting)])
        if ends_at < math.inf:
            call.timer = self._loop.call_later(max(ends_at - now, _SHORTEST_SECONDS), self._look, call)

    def _look(self, call: SharedCall) -> None:
        """End what has taken too long: the call, or the wait of some of its items, which goes on for the others."""
        now = self._ports.clock()
        if call.ends_at <= now + _SHORTEST_SECONDS:
            size, seconds = len(call.members), self.step.timeout_seconds
            self._give_up(call, Timeout(f"the call of {size} {_items(size)} ran longer than timeout_seconds: {seconds:g}"))
            return
        for member in call.waiting:
            self._expire(member)
        if call in self._calls:
            self._watch(call, now)

    def _expire(self, member: Member) -> None:
        now = self._ports.clock()
        if not member.is_done and member.attempt.item_ends_at <= now + _SHORTEST_SECONDS:
            member.attempt.returned(now, self._chance)
            member.fail(member.attempt.timeout())
            self.leave(member)

    def _give_up(self, call: SharedCall, error: BaseException) -> None:
        call.running.give_up(error)
        if not self.step.call_waits:
            self._ports.on_abandoned(self.step)

    def _outputs(self, count: int, returned: Any) -> list[Any]:
        """What a call has returned, as one output for each item. In the thread of the call: it may run code of users."""
        for name in ("tolist", "to_list"):  # of arrays and columns
            if hasattr(returned, name):
                returned = getattr(returned, name)()
                break
        size, said = f"for {count} {_items(count)}", f"the function of node {self.step.id} returned"
        if inspect.iscoroutine(returned):
            returned.close()  # it would complain that nobody awaited it
            raise InvalidValue(f"{said} a coroutine {size}: make the function async, and await it there")
        rule = f"it must return a list with {count} {'output' if count == 1 else 'outputs, one for each item, in their order'}"
        if not isinstance(returned, list | tuple):
            raise InvalidValue(f"{said} a {type(returned).__qualname__}, no list, {size}; {rule}")
        outputs = [*returned]
        if len(outputs) != count:
            raise InvalidValue(f"{said} {len(outputs)} outputs {size}; {rule}")
        return outputs

    def _ended(self, call: SharedCall, outcome: Outcome) -> None:
        self._calls.discard(call)
        if call.timer is not None:
            call.timer.cancel()
        if outcome.error is not None:
            self._failed(call, outcome.error)
        else:
            at = self._ports.clock()
            for member, output in zip(call.members, outcome.value, strict=True):
                if not member.is_done:
                    member.attempt.returned(at, self._chance)
                    member.succeed(output)
        self._send()

    def _failed(self, call: SharedCall, error: BaseException) -> None:
        """Send the items back, or make the call again with fewer of them, to find out which one is to blame."""
        at, number = self._ports.clock(), self._chance()

        def chance() -> float:
            return number

        action = asked(lambda: self._patient.decide(error, CallHistory(1), chance).action, default="fail")
        if isinstance(error, BudgetUsedUpError | StoppedAtRest):
            action = "throttle"  # it was not made
        limits = self._ports.limits
        if action == "throttle" and limits is not None:
            limits.spending.refund()
        is_shared = len(call.members) > 1 and self._batch.isolate and action in ("retry", "fail")
        suspects: list[Member] = []
        for member in call.waiting:
            if is_shared and asked(partial(member.attempt.is_last, error, chance), default=True):
                suspects.append(member)
            else:
                member.attempt.returned(at, chance)
                member.fail(error)
        middle = len(suspects) // 2
        self._again.extendleft(half for half in (suspects[middle:], suspects[:middle]) if half)


def _items(count: int) -> str:
    return "item" if count == 1 else "items"
