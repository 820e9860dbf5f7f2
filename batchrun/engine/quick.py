"""Parts of calls that are one function: called at once, and only given a run of their own where one is needed.

Most calls of a Python workflow are such parts, and end well; a run would cost more than many of them do.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from batchrun.core.items import Item, NodeRecord
from batchrun.engine.item_run import ItemRun
from batchrun.engine.part import digest_of
from batchrun.engine.part_engines import PartEngine, PartEngines
from batchrun.engine.part_run import PartRun
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope


class QuickCall(NamedTuple):
    """What came of such a call.

    Attributes:
        value: what the function gave.
        record: its node execution, with the position 0; null where none is recorded.
        error: what it raised; null when it ended well.
        began: engine clock.
        inputs: what it was called with, and `recorded` the same as JSON; null where that is not recorded.
    """

    value: Any
    record: NodeRecord | None
    error: BaseException | None
    began: float
    inputs: dict[str, Any]
    recorded: bytes | None


class QuickCalls(Protocol):
    """What makes such calls."""

    @property
    def is_plain(self) -> bool:
        """Whether all that the plan does is to call one plain function, whatever comes of it."""

    @property
    def is_async(self) -> bool:
        """The same for one async function."""

    def call(self, data: dict[str, Any]) -> QuickCall:
        """Call the plain function, in a lane thread, without a run."""

    async def call_on_loop(self, data: dict[str, Any], begin: Callable[[], ItemRun]) -> QuickCall | None:
        """Call the async function. When it waits, it gets a run from `begin`: what comes of it is in there, and not returned."""

    def settle(self, run: ItemRun, call: QuickCall) -> None:
        """Settle a call that has failed: now it has a run."""


class QuickPart(NamedTuple):
    """A part that has ended well.

    Attributes:
        engine: of its plan.
        key: its key.
        data: what it was run with.
        call: its call.
        output: what it gave.
    """

    engine: Any
    key: str
    data: dict[str, Any]
    call: QuickCall
    output: Any

    @classmethod
    def of(cls, engine: PartEngine, key: str, data: dict[str, Any], call: QuickCall) -> QuickPart:
        """The part whose call has ended well. May raise what the check of its output raises."""
        output, check = engine.plan.output(Scope(data, [call.value])), engine.plan.output_check
        return cls(engine, key, data, call, output if check is None else check(output))

    @property
    def digest(self) -> str:
        """Of its data, as it was when the function was called: that may have changed it since."""
        call = self.call
        return f"{zlib.crc32(call.recorded):08x}" if call.recorded is not None and call.inputs is self.data else digest_of(self.data)

    def written_out(self, engines: PartEngines[Any], parent: ItemRun, called_by: Step) -> PartRun:
        """The run it would have had."""
        source, step = parent.source, self.engine.plan.steps[0]
        item = Item(engines.next_ordinal(), source.item_index, source.id, self.data, source.window, source.row)
        run = PartRun(parent, item, 1, f"{called_by.id}/{self.key}/", self.digest if engines.is_durable else "")
        engines.runs[item.ordinal] = run
        run.end_with(step, self.call.value)
        if self.call.record is not None:
            run.records.append(self.call.record)
        return run
