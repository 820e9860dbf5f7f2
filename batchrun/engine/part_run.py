"""One part of a call on its way through its plan, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from batchrun.core.errors import NodeError
from batchrun.core.items import Item, KeptNode
from batchrun.core.protocols import NodeJournal
from batchrun.engine.item_run import ItemRun


class KeptPart(NamedTuple):
    """What the journal keeps of a part.

    Attributes:
        digest: of its data; empty: not known.
        nodes: what is kept of its nodes, by ids within the part.
        is_before_edit: the workflow was edited since.
    """

    digest: str
    nodes: tuple[KeptNode, ...]
    is_before_edit: bool


class PartRun(ItemRun):
    """One run of a plan as part of a call. Attempts and time that does not count are those of the item.

    Args:
        parent: the run whose call it is part of.
        source: the data, as an item.
        node_count: of nodes.
        path: names it, and ends in a slash.
        digest: of its data.

    Attributes:
        digest: of its data; empty: not known.
        cause: what the node raised that failed it.
    """

    def __init__(self, parent: ItemRun, source: Item, node_count: int, path: str, digest: str) -> None:
        super().__init__(source, node_count)
        self.parent = parent
        self.path = f"{parent.path}{path}"
        self._own_path = path
        self.digest = digest
        self.started = parent.started
        self.generation = parent.generation
        self.cause: BaseException | None = None

    @property
    def kept_path(self) -> str:
        """What goes before the ids of its nodes in the journal."""
        return f"{self._own_path[:-1]}~{self.digest}/" if self.digest else self._own_path

    @property
    def attempts(self) -> int:
        """See `ItemRun`."""
        return self.parent.attempts

    @attempts.setter
    def attempts(self, attempts: int) -> None:
        self.parent.attempts = attempts

    @property
    def excluded(self) -> float:
        """See `ItemRun`."""
        return self.parent.excluded

    @excluded.setter
    def excluded(self, seconds: float) -> None:
        more = seconds - self.parent.excluded
        self.parent.excluded = seconds
        for call in list(self.parent.call_parts.values()):
            call.put_off(more)

    def fails(self, error: BaseException | None) -> None:
        """See `ItemRun`."""
        self.cause = error


class PartJournal:
    """Keeps what nodes of parts come to under the node whose call they are part of.

    Args:
        journal: keeps it in the end.
        runs: the parts of calls that have not ended, by their ordinals.
    """

    def __init__(self, journal: NodeJournal, runs: Mapping[int, PartRun]) -> None:
        self._journal = journal
        self._runs = runs

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """See `NodeJournal`."""
        known = [self._whole(node, run) for node in nodes if (run := self._runs.get(node.ordinal)) is not None]
        if known:  # else a thread that was abandoned is still at it
            self._journal.keep(known)

    async def checkpoint(self, node: KeptNode) -> None:
        """See `NodeJournal`."""
        run = self._runs.get(node.ordinal)
        if run is None:
            raise NodeError("this call is over, it can leave no checkpoint: it ran past its deadline")
        await self._journal.checkpoint(self._whole(node, run))

    @staticmethod
    def _whole(node: KeptNode, run: PartRun) -> KeptNode:
        return node._replace(ordinal=run.parent.source.ordinal, node_id=f"{run.kept_path}{node.node_id}")


def kept_parts(nodes: Iterable[KeptNode]) -> dict[str, KeptPart]:
    """What is kept of parts, by node and key.

    Example:
        >>> kept_parts([KeptNode(0, 0, 1, "triage/clean:0~5f3a/clean")])["triage/clean:0"].digest
        '5f3a'
    """
    parts: dict[str, KeptPart] = {}
    for node in nodes:
        id, slash, rest = node.node_id.partition("/")
        if slash:
            key, _, inner = rest.partition("/")
            key, _, digest = key.partition("~")
            before = parts.get(f"{id}/{key}")
            known = before.nodes if before is not None and before.digest == digest else ()
            is_before_edit = node.is_before_edit or (known != () and before is not None and before.is_before_edit)
            parts[f"{id}/{key}"] = KeptPart(digest, (*known, node._replace(node_id=inner)), is_before_edit)
    return parts
