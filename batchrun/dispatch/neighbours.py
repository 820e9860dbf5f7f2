"""What the dispatcher asks of the rooms beside it, which it never imports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from batchrun.core.items import Item, ItemResult, ItemStatus
from batchrun.core.protocols import ResultSink, Rows, Slot
from batchrun.flow.reach import Reach

Waiting = TypeVar("Waiting")


class Chunk(Protocol[Waiting]):
    """What came out of a chunk: results, and items that must wait before they are tried again."""

    @property
    def results(self) -> list[ItemResult]:
        """Items that have ended."""

    @property
    def statuses(self) -> Mapping[ItemStatus, int]:
        """How many items have ended with which status."""

    @property
    def waiting(self) -> list[Waiting]:
        """Items that go on later."""

    @property
    def rows(self) -> list[Rows]:
        """Made of further items that have ended."""


class Runner(Protocol[Waiting]):
    """What the dispatcher asks of the engine."""

    @property
    def largest_batch(self) -> int:
        """The most items that wait for one another, to be called together; 0: none do."""

    def reach(self) -> Reach:
        """For a task that runs one item after another."""

    def run(self, item: Item, slot: Slot, reach: Reach | None = None) -> Awaitable[ItemResult]:
        """Run one item to its end, within the reach of its task. Ends early, with a cancelled result, when the task is cancelled."""

    async def finish(self, run: Waiting, slot: Slot) -> ItemResult:
        """Run an item that came out of a chunk to its end."""

    def submit(self, items: list[Item], on_finished: Callable[[Chunk[Waiting]], None]) -> None:
        """Run items in chunks; uses the list up."""

    def withdraw(self) -> list[Item]:
        """Take back what was submitted in chunks and has not started."""

    def resize(self, parallelism: int) -> None:
        """Work on this many items at once from now on; what is at work may end."""

    def send_waiting(self, *, is_end: bool) -> None:
        """All open items wait, and no other can begin, now or (`is_end`) ever: let none wait for others that cannot come."""

    def stop_waiting(self) -> None:
        """End items that wait for another attempt."""

    def abandon_all(self) -> None:
        """End items that run in lanes."""


class ItemFeed(Protocol):
    """Where items come from."""

    @property
    def loaded(self) -> int:
        """Items handed out so far."""

    async def next(self) -> list[Item] | None:
        """The next items, in order, at least one; None after the last ones."""

    def close(self) -> None:
        """Read no further."""


class Rooms(NamedTuple):
    """Where items come from and where results go."""

    feed: ItemFeed
    sink: ResultSink
