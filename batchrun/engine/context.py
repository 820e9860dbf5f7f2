"""The context of a call: what its function knows about it, and what it leaves behind."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import orjson

from batchrun.core.errors import InvalidValue, NodeError
from batchrun.core.items import KeptNode, Told, Usage
from batchrun.core.protocols import NodeJournal
from batchrun.engine.faithful import faithful_text
from batchrun.flow.budget import Spending


class Trace(NamedTuple):
    """What calls of a node for an item have left behind.

    Attributes:
        usage: what they used, all together, and what else they said about themselves; null when they said nothing.
        checkpoint: the last value one of them left, as JSON.
    """

    usage: Usage | None = None
    checkpoint: bytes | None = None


class CallPorts:
    """What the calls of one execution share. Made on the event loop.

    Args:
        execution_id: the execution.
        journal: where checkpoints are kept; null: they live as long as the process.
        spending: told of what calls use.
        is_cancelled: whether somebody has cancelled the execution.
        resting: see `Scope`.
    """

    def __init__(
        self,
        execution_id: str,
        journal: NodeJournal | None,
        spending: Spending | None,
        is_cancelled: Callable[[], bool] = lambda: False,
        resting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.execution_id = execution_id
        self.journal = journal
        self.spending = spending
        self.is_cancelled = is_cancelled
        self.resting = resting
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()


class CallContext:
    """The context of one call: see `batchrun.Context`. Functions may use it from any thread.

    It knows nothing of its item's run: a thread that is abandoned can do it no harm.

    Args:
        ports: what the calls of the execution share.
        position: of the node in the plan.
        kept: the node's entry in the journal as it is when the call begins.
        attempt: number of the call.
        call_key: of the call.
        before: what earlier calls left.
    """

    __slots__ = ("_before", "_checkpoint", "_is_over", "_kept", "_ports", "_said", "_used", "attempt", "call_key", "position")

    def __init__(self, ports: CallPorts, position: int, kept: KeptNode, *, attempt: int, call_key: str, before: Trace) -> None:
        self._ports = ports
        self._kept = kept
        self._before = before
        self._checkpoint = before.checkpoint
        self._used: list[Usage] = []
        self._said: dict[str, str | None] = {}
        self._is_over = False
        self.position = position
        self.attempt = attempt
        self.call_key = call_key

    @property
    def execution_id(self) -> str:
        """The execution."""
        return self._ports.execution_id

    @property
    def item_index(self) -> int:
        """Position of the item's row in the dataset version."""
        return self._kept.item_index

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has cancelled the execution."""
        return self._ports.is_cancelled()

    @property
    def last_checkpoint(self) -> Any:
        """The last value that this call or an earlier one left; null: there is none."""
        return None if self._checkpoint is None else orjson.loads(self._checkpoint)

    def checkpoint(self, value: Any) -> Awaitable[None]:
        """Leave a value for later attempts; blocks when it is not called on the event loop."""
        saving = self._save(_checkpoint_text(value))
        if threading.get_ident() == self._ports.thread:
            return saving
        try:
            asyncio.run_coroutine_threadsafe(saving, self._ports.loop).result()
        except RuntimeError:  # the loop is closed: the execution ended without this call
            saving.close()
            raise
        return _Saved()

    def add_usage(self, *, input_tokens: int = 0, output_tokens: int = 0, cost: float = 0.0) -> None:
        """Report what the call has used."""
        usage = Usage(input_tokens, output_tokens, cost)
        for name, number in usage._asdict().items():
            if not 0 <= number < math.inf:
                raise InvalidValue(f"{name} must be ≥ 0 and finite, got {number}")
        self._used.append(usage)
        if self._ports.spending is not None:
            self._ports.spending.add(usage)

    def record(self, *, prompt: str | None = None, external_id: str | None = None) -> None:
        """Say what is to be seen in the node's record."""
        said = {"prompt": prompt, "external_id": external_id}
        self._said |= {name: text for name, text in said.items() if text is not None}

    def end(self) -> Trace:
        """The call is over. Returns what it and those before it have left; what it leaves from now on does not count."""
        self._is_over = True
        before = self._before.usage
        total = _total([before, *self._used])
        if self._said or isinstance(before, Told):
            earlier = {"prompt": before.prompt, "external_id": before.external_id} if isinstance(before, Told) else {}
            said = {"prompt": None, "external_id": None, **earlier, **self._said}
            total = Told.of(total, said["prompt"], said["external_id"])
        return Trace(total, self._checkpoint)

    async def _save(self, text: bytes) -> None:
        if self._is_over:
            raise NodeError("this call is over, it can leave no checkpoint: it ran past its deadline, or has returned")
        self._checkpoint = text  # before it is safe: a call that is cancelled meanwhile may have left it on the disk
        if self._ports.journal is not None:
            await self._ports.journal.checkpoint(self._kept._replace(checkpoint=text))


class _Saved:
    """What a plain function gets, which need not await anything."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


def _checkpoint_text(value: Any) -> bytes:
    try:
        text = faithful_text(value, lambda restored: restored)
    except orjson.JSONDecodeError:  # lone surrogates
        text = None
    if text is None:
        raise InvalidValue(
            f"a checkpoint of type {type(value).__qualname__} would not come back from JSON as it was; "
            "leave dicts with text keys, lists, text, numbers, booleans and null"
        )
    return text


def _total(usages: list[Usage | None]) -> Usage | None:
    said = [usage for usage in usages if usage is not None]
    return Usage(*map(sum, zip(*said, strict=True))) if said else None
