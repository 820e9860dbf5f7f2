"""Where items go on that have begun: in an earlier run of the execution, or in a worker that died."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from batchrun.core.items import KeptNode, RestoredItem


class BegunItems:
    """What nodes of open items have come to.

    Args:
        restored: what an earlier run left of an item, by its ordinal; null: there was none.

    Example:
        >>> items = BegunItems(None)
        >>> items.keep([KeptNode(3, 3, 2, "clean", output=b"1")])
        >>> items.of([2, 3])[3].attempts
        2
    """

    def __init__(self, restored: Callable[[int], RestoredItem | None] | None) -> None:
        self._restored = restored
        self._nodes: dict[int, dict[str, KeptNode]] = {}

    def __bool__(self) -> bool:
        """Whether there are any of this run."""
        return bool(self._nodes)

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """Take what nodes have come to; the last word about a node counts."""
        for node in nodes:
            self._nodes.setdefault(node.ordinal, {})[node.node_id] = node

    def of(self, ordinals: Sequence[int]) -> dict[int, RestoredItem]:
        """Where those of these items go on that have begun."""
        if self._restored is None and not self._nodes:
            return {}
        found = ((ordinal, self._item(ordinal)) for ordinal in ordinals)
        return {ordinal: item for ordinal, item in found if item is not None}

    def end(self, ordinals: Sequence[int]) -> None:
        """These items have ended."""
        if self._nodes:
            for ordinal in ordinals:
                self._nodes.pop(ordinal, None)

    def _item(self, ordinal: int) -> RestoredItem | None:
        before = self._restored(ordinal) if self._restored is not None else None
        nodes = self._nodes.get(ordinal)
        if nodes is None:
            return before
        before = before or RestoredItem(1, 0, (), {})
        kept = {**{node.node_id: node for node in before.nodes}, **nodes}
        attempts = max(before.attempts, *(node.item_attempts for node in nodes.values()))
        return before._replace(attempts=attempts, nodes=tuple(kept.values()))
