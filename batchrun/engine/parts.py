"""Parts of calls: plans that run inside the call of a node, each in an engine of its own.

So parts have all that nodes have, and share batches, limits and connections across items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from threading import Lock
from typing import Any, Self, TypeVar, cast

import orjson

from batchrun.core.errors import ErrorRecord
from batchrun.core.items import Item, NodeRecord, RestoredItem
from batchrun.core.protocols import Slot
from batchrun.engine.gathering import gathered
from batchrun.engine.item_run import ItemRun
from batchrun.engine.keeping import not_waiting, with_outputs
from batchrun.engine.part import Part, PartEnded, PartSentBack, digest_of, is_other, leaves, refuse_other_data
from batchrun.engine.part_engines import PartEngine, PartEngines
from batchrun.engine.part_run import PartRun
from batchrun.engine.quick import QuickCall, QuickPart
from batchrun.engine.together import SharedSlot
from batchrun.workflows.plan import Plan, Step

T = TypeVar("T")


class CallParts:
    """The parts of the calls of one node for one item: see `Parts`. They outlive a call that is made again.

    Args:
        engines: of all parts.
        parent: the run of the item.
        step: the node.
    """

    def __init__(self, engines: PartEngines[Any], parent: ItemRun, step: Step) -> None:
        self._engines, self._parent, self._step = engines, parent, step
        self._parts: dict[str, Part | QuickPart] = {}
        self._fresh: deque[Part | QuickPart] = deque()  # have ended well, and were not handed over; a lane adds to them
        self._handing_over = Lock()  # a lane may end the call while the event loop is at it
        self._values: dict[str, Any] = {}
        self._slot: Slot = parent.slot
        self._on_put_off: Callable[[float], None] = lambda _seconds: None
        self._interruption: PartEnded | PartSentBack | None = None
        self._is_left = False

    def begin(self, slot: Slot, on_put_off: Callable[[float], None] = lambda _seconds: None) -> Self:
        """The call is made, perhaps anew.

        Args:
            slot: of the item, for this call.
            on_put_off: called on the event loop when the item's deadline has moved by so many seconds.
        """
        self._slot, self._on_put_off, self._interruption = slot, on_put_off, None
        return self

    def put_off(self, seconds: float) -> None:
        """The item's deadline has moved by so much; called from any thread."""
        self._engines.on_loop(self._on_put_off, seconds)

    async def run(self, plan: Plan, data: dict[str, Any], key: str) -> Any:
        """See `Parts`."""
        part = self._known(data, key)
        if part is None:
            engine = await self._engines.of(plan, self._step)
            is_quick = engine.quick.is_async and not self._is_kept(key)
            part = await self._called_on_loop(engine, data, key) if is_quick else self._new(engine, data, key)
            if is_quick and isinstance(part, Part) and part.run.wait_seconds is None:
                return self._outcome(part, plan)
        if isinstance(part, QuickPart):
            return part.output
        if not part.has_output and part.cause is None:
            part.run.status = part.run.error = None
            try:
                part.run = await part.engine.drive(part.run, self._shared_slot())
            except BaseException:
                part.run = part.run.left()
                raise
        return self._outcome(part, plan)

    def run_now(self, plan: Plan, data: dict[str, Any], key: str) -> Any:
        """See `Parts`."""
        part = self._known(data, key)
        if part is None:
            engine = self._engines.now(plan, self._step)
            if engine.quick.is_plain and not self._is_kept(key):
                return self._run_quickly(engine, data, key)
            part = self._new(engine, data, key)
        if isinstance(part, QuickPart):
            return part.output
        if not part.has_output and part.cause is None:
            part.run.status = part.run.error = None
            part.engine.run_here(part.run)
        return self._outcome_now(part)

    def _run_quickly(self, engine: PartEngine, data: dict[str, Any], key: str) -> Any:
        call = engine.quick.call(data)
        if call.error is not None:
            part = self._new(engine, data, key)
            engine.quick.settle(part.run, call)
            del call  # else its error and this frame would keep one another alive
            return self._outcome_now(part)
        return self._ended_quickly(engine, data, key, call).output

    async def _called_on_loop(self, engine: PartEngine, data: dict[str, Any], key: str) -> Part | QuickPart:
        digest = digest_of(data) if self._engines.is_durable else ""  # now: the function may change its arguments
        begun = list[Part]()

        def begin() -> ItemRun:
            begun.append(self._new(engine, data, key, digest))
            return begun[0].run

        call = await engine.quick.call_on_loop(data, begin)
        if call is not None and call.error is None:
            return self._ended_quickly(engine, data, key, call)
        if call is not None:
            engine.quick.settle(begin(), call)
        return begun[0]

    def _ended_quickly(self, engine: PartEngine, data: dict[str, Any], key: str, call: QuickCall) -> QuickPart:
        self._parts[key] = quick = QuickPart.of(engine, key, data, call)
        if self._engines.is_durable:
            self._fresh.append(quick)
        return quick

    def _outcome_now(self, part: Part) -> Any:
        if part.run.wait_seconds is not None:
            self._interruption = PartSentBack(part.run)
            raise self._interruption
        return self._outcome(part, part.engine.plan)

    def fork(self, parent: ItemRun) -> CallParts:
        """Those of a run that goes on in the place of its parent: what an abandoned thread still does must not show."""
        self._is_left = True
        copy = CallParts(self._engines, parent, self._step)
        copy._fresh, copy._values = deque(self._fresh), dict(self._values)
        for key, part in list(self._parts.items()):
            copy._parts[key] = part if isinstance(part, QuickPart) or part.has_output else part.forked(self._engines, parent)
        return copy

    def recorded(self, key: str, name: str, make: Callable[[], T]) -> T:
        """See `Parts`."""
        self._refuse_if_left()
        if key not in self._values:
            path = f"{self._step.id}/{key}"
            kept = self._parent.kept_parts.get(path)
            if kept is not None and kept.nodes[0].output is not None:
                self._values[key] = orjson.loads(kept.nodes[0].output)
            else:
                self._values[key] = make()
                self._engines.keep_value(self._parent, f"{path}/{name}", self._values[key])
        return cast("T", self._values[key])

    async def together(self, calls: Sequence[Callable[[], Awaitable[Any]]], most: int) -> list[Any]:
        """See `Parts`."""
        ended = await gathered(calls, most, self._shared_slot())
        if ended.errors:
            self._raise_first(ended.errors)
        return [ended.values[number] for number in range(len(calls))]

    def _raise_first(self, errors: dict[int, BaseException]) -> None:
        error = errors[min(errors, key=lambda number: (isinstance(errors[number], PartEnded), number))]
        if not isinstance(error, PartEnded) and isinstance(self._interruption, PartEnded) and self._interruption.status == "waiting":
            self._interruption = None  # whatever the person would have said
        try:
            raise error
        finally:
            errors.clear()  # else this frame, the error and what it went through would keep one another alive
            del error

    def keep(self) -> None:
        """Hand over what parts that have ended well gave: the call they belong to goes on."""
        if not self._handing_over.acquire(blocking=False):
            return  # whoever is at it takes all of them, and a lane may take long: code of users runs
        try:
            while self._fresh:
                part = self._fresh.popleft()
                run = part.run if isinstance(part, Part) else part.written_out(self._engines, self._parent, self._step)
                part.engine.keep([run])
                if isinstance(part, QuickPart):
                    self._engines.runs.pop(run.source.ordinal, None)
        finally:
            self._handing_over.release()

    def end(self, *, is_kept: bool, is_waiting: bool = False, has_outputs: bool = False) -> list[NodeRecord]:
        """The call has ended. Returns the node executions of its parts, in the order in which these began.

        Args:
            is_kept: whether what they gave must be kept, since the call has not ended well.
            is_waiting: whether the item waits for a person, if one of them does.
            has_outputs: whether the records show the outputs, whatever is recorded otherwise.
        """
        records: list[NodeRecord] = []
        with self._handing_over:
            for part in [] if self._is_left else self._parts.values():
                names = part.engine.names
                if isinstance(part, QuickPart) and not (is_kept or has_outputs):
                    records += [(names[0], *part.call.record[1:])] if part.call.record is not None else []
                    continue
                run = part.run if isinstance(part, Part) else part.written_out(self._engines, self._parent, self._step)
                if is_kept:
                    part.engine.keep([run])
                for nested in run.call_parts.values():  # of one that was given up
                    run.records += nested.end(is_kept=is_kept, has_outputs=has_outputs)
                run.call_parts, run.parts = {}, None
                self._engines.runs.pop(run.source.ordinal, None)
                run.fails(None)  # what it raised holds on to whatever it went through
                own = with_outputs(run, part.engine.plan.steps) if has_outputs else run.records
                records += [(names[record[0]], *record[1:]) if record[0] >= 0 else record for record in own]
            self._parts, self._interruption, self._fresh = {}, None, deque()
        return records if is_waiting else not_waiting(records)

    def meant(self, error: BaseException) -> BaseException:
        """What an exception of the call stands for.

        That of a part that has failed, though others were raised with it; or one of the engine that code of users has caught.
        """
        if isinstance(error, PartEnded | PartSentBack):
            return error
        failed = next((each for each in leaves(error) if self.record_of(each) is not None), None)
        return failed or self._interruption or error

    def check(self) -> None:
        """The call has given something. Raises the exception of the engine that code of users has caught, if it has."""
        if self._interruption is not None:
            raise self._interruption

    def forget_failures(self) -> None:
        """The call is tried again, and so is what has failed in it."""
        for part in self._parts.values():
            if isinstance(part, Part):
                part.run.fails(None)

    def record_of(self, error: BaseException) -> ErrorRecord | None:
        """What is recorded of an exception that a part has failed with; null: it comes from elsewhere."""
        return next((part.run.error for part in list(self._parts.values()) if isinstance(part, Part) and part.cause is error), None)

    def _shared_slot(self) -> SharedSlot:
        """The slot for calls some of which may run at the same time."""
        if not isinstance(self._slot, SharedSlot):
            self._slot = SharedSlot(self._slot, 1)
        return self._slot

    def _refuse_if_left(self) -> None:
        if self._is_left:
            raise PartEnded("cancelled")

    def _known(self, data: dict[str, Any], key: str) -> Part | QuickPart | None:
        self._refuse_if_left()
        part = self._parts.get(key)
        if isinstance(part, QuickPart):
            refuse_other_data(f"{self._parent.path}{self._step.id}/{key}", part.digest if self._engines.is_durable else "", data)
        elif part is not None and isinstance(part.run, PartRun):
            refuse_other_data(part.run.path[:-1], part.run.digest, data)
        return part

    def _is_kept(self, key: str) -> bool:
        return bool(self._parent.kept_parts) and f"{self._step.id}/{key}" in self._parent.kept_parts

    def _new(self, engine: PartEngine, data: dict[str, Any], key: str, digest: str | None = None) -> Part:
        parent, source = self._parent, self._parent.source
        path = f"{self._step.id}/{key}"
        kept = parent.kept_parts.get(path)
        if kept is not None and kept.is_before_edit and is_other(data, kept.digest):
            kept = None
        elif kept is not None:
            refuse_other_data(f"{parent.path}{path}", kept.digest, data)
        item = Item(self._engines.next_ordinal(), source.item_index, source.id, data, source.window, source.row)
        if digest is None:
            digest = digest_of(data) if self._engines.is_durable else ""
        run = PartRun(parent, item, len(engine.plan.steps), f"{path}/", digest)
        self._engines.runs[item.ordinal] = run
        if kept is not None:
            engine.restore(run, RestoredItem(parent.attempts, parent.generation, kept.nodes, {}))
        part = self._parts[key] = Part(engine, run)
        return part

    def _outcome(self, part: Part, plan: Plan) -> Any:
        if not part.has_output:
            part.output = self._output(part, plan)
            part.has_output = True
            if self._engines.is_durable:
                self._fresh.append(part)
        return part.output

    def _output(self, part: Part, plan: Plan) -> Any:
        run = part.run
        if run.status is None:
            if plan.output_nodes and run.skipped & plan.output_nodes == plan.output_nodes:
                return None
            output = plan.output(run)
            return output if plan.output_check is None else plan.output_check(output)
        if part.cause is not None:
            raise part.cause
        self._interruption = PartEnded(run.status)
        raise self._interruption
