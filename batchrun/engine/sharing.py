"""Calls that need not be made, because their output is known or on its way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

from batchrun.core.protocols import OutputCache
from batchrun.engine.caching import MISSING, KeptOutputs
from batchrun.engine.canonical import canonical
from batchrun.engine.dedupe import Dedupe
from batchrun.engine.failures import asked
from batchrun.workflows.plan import Step
from batchrun.workflows.scope import Scope

_TURN_SECONDS = 0.005
_FORMAT = b"1"  # another one when outputs of the same nodes for the same inputs are to be others from now on


class SharingPorts(NamedTuple):
    """What the shared calls of one execution have in common.

    Attributes:
        cache: keeps outputs; null: none are kept.
        clock: that of the engine.
        on_note: called with a line for people; from any thread.
    """

    cache: OutputCache | None
    clock: Callable[[], float]
    on_note: Callable[[str], None]


def shared(step: Step, call: Callable[[Scope], Any], ports: SharingPorts) -> Callable[[Scope], Any]:
    """The calls of a node, made only where the cache has no output and no other item makes the same call."""
    calls = _SharedCalls(step, call, ports)
    return calls.wait if step.waits else calls.run


class _SharedCalls:
    """The calls of one node."""

    def __init__(self, step: Step, call: Callable[[Scope], Any], ports: SharingPorts) -> None:
        self._step = step
        self._call = call
        self._on_note = ports.on_note
        self._turns = _Turns(ports.clock)
        self._is_told = False
        self._start = hashlib.blake2b(_FORMAT + step.fingerprint.encode() + b"\0", digest_size=20)
        self._kept = KeptOutputs(step, ports.cache, ports.on_note) if step.is_cached and ports.cache is not None else None
        self._dedupe = Dedupe(step, ports.clock, ports.on_note) if step.is_deduped else None

    def run(self, scope: Scope) -> Any:
        """The output for one item; in a lane thread."""
        key = self._key(scope)
        value = self._find(key, scope)
        if value is MISSING:
            value = self._call(scope)
            self._keep(key, value)
        return value

    async def wait(self, scope: Scope) -> Any:
        """The output for one item; on the event loop."""
        key = self._key(scope)
        value = self._find(key, scope)
        if value is not MISSING:
            await self._turns.end()
            return value
        make: Callable[[Scope], Awaitable[Any]] = partial(self._make, key)
        return await (make(scope) if key is None or self._dedupe is None else self._dedupe.call(key, scope, make))

    async def _make(self, key: bytes | None, scope: Scope) -> Any:
        value = await self._call(scope)
        self._keep(key, value)
        return value

    def _key(self, scope: Scope) -> bytes | None:
        """What identifies the output; null when that cannot be told, as when the call will fail."""
        return asked(partial(self._digest, scope), default=None)

    def _digest(self, scope: Scope) -> bytes | None:
        if self._step.key is None:
            return None
        digest = self._start.copy()
        digest.update(canonical(self._step.key(scope)))
        return digest.digest()

    def _find(self, key: bytes | None, scope: Scope) -> Any:
        value = MISSING if key is None or self._kept is None else self._kept.find(key)
        if value is not MISSING:
            scope.cache_hit = True
            scope.call_key = None  # no call was made
        return value

    def _keep(self, key: bytes | None, value: Any) -> None:
        if key is not None:
            if self._kept is not None:
                self._kept.keep(key, value)
        elif not self._is_told:
            self._is_told = True
            self._on_note(f"node {self._step.id}: some inputs have a type that cannot be compared, and their calls are always made")


class _Turns:
    """Lets others have their turns on the event loop: items whose outputs are known wait for nothing, and there may be a million."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends_at = 0.0
        self._is_over = False

    async def end(self) -> None:
        """Wait for the next turn of the loop, if this one has lasted for long."""
        if not self._is_over:
            if self._clock() < self._ends_at:
                return
            self._is_over = True  # also for all items that come in this turn
            asyncio.get_running_loop().call_soon(self._begin)
        await asyncio.sleep(0)

    def _begin(self) -> None:
        self._is_over = False
        self._ends_at = self._clock() + _TURN_SECONDS
