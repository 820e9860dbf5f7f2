"""Keeping secrets out of what an execution writes down and tells. An execution without secrets has none of this in its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from batchrun.core.errors import InvalidValue
from batchrun.core.events import SentBack
from batchrun.core.items import ItemResult, KeptNode, shown_id
from batchrun.core.protocols import NodeJournal, OutputCache, ResultSink, Rows
from batchrun.core.secrets import Mask
from batchrun.results.columns import FEWEST_ROWS


class MaskedResults:
    """Hands results on without secrets.

    Args:
        sink: takes them.
        mask: knows the secrets.
    """

    def __init__(self, sink: ResultSink, mask: Mask) -> None:
        self._sink = sink
        self._mask = mask

    @property
    def backlog(self) -> int:
        """See `ResultSink`."""
        return self._sink.backlog

    def put(self, results: Sequence[ItemResult]) -> None:
        """See `ResultSink`."""
        self._sink.put(list(map(self._mask.result, results)))

    def pack(self, results: Sequence[ItemResult]) -> Rows | None:
        """See `ResultSink`."""
        return self._sink.pack(list(map(self._mask.result, results))) if len(results) >= FEWEST_ROWS else None

    def put_rows(self, rows: Any) -> None:
        """See `ResultSink`."""
        self._sink.put_rows(rows)


class MaskedJournal:
    """Keeps what nodes have come to, but no output with a secret in it: a masked one would be another output.

    Args:
        journal: takes the rest.
        mask: knows the secrets.
        on_note: told, once per node, that its outputs are not kept; from any thread.
    """

    def __init__(self, journal: NodeJournal, mask: Mask, on_note: Callable[[str], None]) -> None:
        self._journal = journal
        self._mask = mask
        self._on_note = on_note
        self._noted: dict[str, object] = {}

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """See `NodeJournal`."""
        kept = [masked for node in nodes if (masked := self._masked(node)) is not None]
        if kept:
            self._journal.keep(kept)

    async def checkpoint(self, node: KeptNode) -> None:
        """See `NodeJournal`.

        Raises:
            InvalidValue: there is a secret in it.
        """
        if node.checkpoint is not None and self._mask.is_in(node.checkpoint):
            raise InvalidValue("a checkpoint must not hold a secret: it is written to the disk")
        await self._journal.checkpoint(node)

    def _masked(self, node: KeptNode) -> KeptNode | None:
        record, output = node.record, node.output
        if output is not None and self._mask.is_in(output):
            if record is None or record[1] != "waiting":  # what waits is shown to a person, and is no output
                self._tell(shown_id(node.node_id))
                return None
            output = self._mask.json(output)
        return node._replace(record=None if record is None else self._mask.node(record), output=output)

    def _tell(self, node_id: str) -> None:
        own = object()
        if self._noted.setdefault(node_id, own) is own:
            self._on_note(
                f"node {node_id}: outputs with a secret in them are not kept between runs; after a crash, {node_id} runs again for items "
                "that had not ended"
            )


class MaskedCache:
    """Keeps outputs for other calls, but none with a secret in it.

    Args:
        cache: keeps them.
        mask: knows the secrets.
    """

    def __init__(self, cache: OutputCache, mask: Mask) -> None:
        self._cache = cache
        self._mask = mask

    def get(self, key: bytes) -> bytes | None:
        """See `OutputCache`."""
        return self._cache.get(key)

    def put(self, key: bytes, output: bytes, node_id: str, fingerprint: str) -> None:
        """See `OutputCache`."""
        if not self._mask.is_in(output):
            self._cache.put(key, output, node_id, fingerprint)


def masked_events(tell: Callable[[SentBack], None] | None, mask: Mask) -> Callable[[SentBack], None] | None:
    """Tells of calls that will be made again, without secrets; null when nobody wants to know."""
    if tell is None or not mask:
        return tell
    return lambda event: tell(replace(event, message=mask.text(event.message)))
