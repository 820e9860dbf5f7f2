"""Outputs of nodes that are kept for other calls, in this execution or a later one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson

from batchrun.core.protocols import OutputCache
from batchrun.engine.failures import asked
from batchrun.engine.faithful import faithful_text
from batchrun.workflows.plan import Step

MISSING: Final = object()
"""What stands for an output that there is not."""


class KeptOutputs:
    """The outputs of one node. Used in lane threads and on the event loop.

    Args:
        step: the node.
        cache: keeps them.
        on_note: told, once, that outputs cannot be kept; from any thread.
    """

    def __init__(self, step: Step, cache: OutputCache, on_note: Callable[[str], None]) -> None:
        self._step = step
        self._cache = cache
        self._on_note = on_note
        self._is_told = False

    def find(self, key: bytes) -> Any:
        """The output that is kept under a key, or `MISSING`. It is a new value each time, which whoever gets it may change."""
        text = self._cache.get(key)
        if text is None:
            return MISSING
        return asked(lambda: self._step.restore(orjson.loads(text)), default=MISSING)

    def keep(self, key: bytes, value: Any) -> None:
        """Keep an output if it would come back as it is."""
        text = asked(partial(faithful_text, value, self._step.restore), default=None)
        if text is not None:
            self._cache.put(key, text, self._step.id, self._step.fingerprint)
        elif not self._is_told:
            self._is_told = True
            self._on_note(
                f"node {self._step.id}: outputs of type {type(value).__qualname__} do not come back from JSON as they were and are not "
                "cached. Annotate the function's return type, or return dicts with text keys, lists, text and numbers"
            )
