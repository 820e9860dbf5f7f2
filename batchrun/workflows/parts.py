"""Plans that run as parts of a node's call: what a sub-workflow or a Python workflow asks of the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from batchrun.workflows.plan import Plan

T = TypeVar("T")


class Parts(Protocol):
    """The parts of one call. Their node executions are recorded beside its own, and what they gave is kept as that of other nodes is.

    Parts have all that nodes have: retries, deadlines, batches, caches. A part that has ended is not run again when the call
    is made anew, after a retry or a resume.
    """

    async def run(self, plan: Plan, data: dict[str, Any], key: str) -> Any:
        """Run a plan over `data` as its item, and return what it gives.

        Args:
            plan: what to run; the same object each time, for an engine is made for it.
            data: the values that its templates see as the item.
            key: names this part among those of the call, in the same way whenever the call is made for the item.

        Raises:
            ReplayMismatch: a part of this key was run with other data before.
            BaseException: what the node raised that failed, when the plan has failed. Or an exception of the engine, which a call
                must let through: the item cannot go on.
        """

    def run_now(self, plan: Plan, data: dict[str, Any], key: str) -> Any:
        """The same in a lane thread, for a plan in which nothing waits; see `run`."""

    def recorded(self, key: str, name: str, make: Callable[[], T]) -> T:
        """What `make` gave when it was first asked for under this key; it must be what JSON gives back.

        Args:
            key: as in `run`.
            name: says what it is, for people.
            make: makes it.
        """

    async def together(self, calls: Sequence[Callable[[], Awaitable[Any]]], most: int) -> list[Any]:
        """Make calls that run parts at the same time, `most` of them at once, and return what each gives, in their order.

        The item's slot is given back while all of them wait. The first failure ends the others.

        Raises:
            BaseException: what the first of them raised, in their order.
        """
