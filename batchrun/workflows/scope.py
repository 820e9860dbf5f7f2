"""What the templates and calls of one item can see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

from batchrun.core.errors import Outage
from batchrun.core.items import Usage
from batchrun.core.protocols import Slot
from batchrun.workflows.context import Context
from batchrun.workflows.parts import Parts


class Held:
    """A slot that is kept, whatever waits."""

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        """It is not given back."""
        yield


class Scope:
    """The values of one item, filled in as its nodes end.

    Attributes:
        item: the columns the workflow reads, by name.
        outputs: the output of each node by its position in the plan; null until it ended, or when it was skipped.
        inputs: the inputs of the node that is being called.
        call_key: identifies this call across retries and resumes; only for nodes that ask for it.
        context: what the function that is being called asked for; null for all others.
        cache_hit: whether the call that is being made has taken its output from the cache.
        slot: the item's place among those that are worked on; a call that waits for other items parks it. Nodes of an item that
            run together have it in common: it is parked while all of them wait.
        sending: a node that queues for its turn calls this when its request is about to be sent; `in_doubt` says that the
            service may then have done work which must not be done twice.
        outage: a node whose call is cut off at its deadline says here whether its service is out of order.
        queued: a node that queues calls this when a later request of the same call waits for its turn, and what it returns when the
            request is about to be sent: no clock runs between the two.
        resting: a node that queues awaits in it what is no work of its own, such as the time until it asks again: when the execution
            stops, that ends at once.
        expecting: a node that queues makes a request in it that is counted by what it uses, and reports within it what that was; what
            is expected comes out of the budget meanwhile.
        is_late: tells a node that queues, when its call is cancelled, whether its time is over: nobody comes back for it.
        parts: of a call that runs other plans.
        sharing: of a call that is made for several items, the part that this one has in it; for the engine alone.
    """

    inputs: dict[str, Any]
    call_key: str | None = None
    context: Context | None = None
    cache_hit: bool = False
    slot: Slot = Held()
    sending: Callable[..., None] = staticmethod(lambda *, in_doubt: None)  # noqa: ARG005
    outage: Outage | None = None
    queued: Callable[[], Callable[[], None]] = staticmethod(lambda: lambda: None)
    resting: Callable[[], AbstractContextManager[None]] = staticmethod(nullcontext)
    expecting: Callable[[Usage], AbstractAsyncContextManager[None]] = staticmethod(lambda _use: nullcontext())
    is_late: Callable[[], bool] = staticmethod(lambda: False)
    parts: Parts | None = None
    sharing: Any = None

    def __init__(self, item: dict[str, Any], outputs: list[Any]) -> None:
        self.item = item
        self.outputs = outputs
