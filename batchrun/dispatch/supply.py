"""Items that were loaded and have not begun."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from batchrun.core.errors import ExecutionError
from batchrun.core.items import Item
from batchrun.dispatch.neighbours import ItemFeed


class Supply:
    """Takes items from a feed, up to its end or the first that cannot be read.

    Attributes:
        held: items that were loaded and have not begun; put back here when they were taken in vain.
        is_exhausted: the feed has no more.
        fault: why no more can be read; null: nothing is wrong.
    """

    def __init__(self, feed: ItemFeed) -> None:
        self.held: deque[Item] = deque()
        self.is_exhausted = False
        self.fault: ExecutionError | None = None
        self._feed = feed

    @property
    def has_items(self) -> bool:
        """Whether any item may still begin."""
        return bool(self.held) or not self.is_exhausted

    @property
    def begun_items(self) -> int:
        """Items that were loaded and are not held."""
        return self._feed.loaded - len(self.held)

    async def load(self) -> list[Item]:
        """The next items; none at the end."""
        try:
            loaded = await self._feed.next()
        except ExecutionError as error:
            self.fault, loaded = error, None
        self.is_exhausted = loaded is None
        return loaded or []

    def put_back(self, items: Collection[Item]) -> None:
        """Hold items again that were loaded before those that are held."""
        self.held.extendleft(reversed([*items]))

    def taken(self) -> list[Item]:
        """All that are held."""
        items = list(self.held)
        self.held.clear()
        return items
