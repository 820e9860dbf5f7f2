"""What the templates and calls of one item can see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchrun.workflow.context import Context


class Scope:
    """The values of one item, filled in as its nodes end.

    Attributes:
        item: the columns the workflow reads, by name.
        outputs: the output of each node by its position in the plan; null until it ended, or when it was skipped.
        inputs: the inputs of the node that is being called.
        call_key: identifies this call across retries and resumes; only for nodes that ask for it.
        context: what the function that is being called asked for; null for all others.
        sending: a node that queues for its turn calls this when its request is about to be sent; `in_doubt` says that the
            service may then have done work which must not be done twice.
    """

    inputs: dict[str, Any]
    call_key: str | None = None
    context: Context | None = None
    sending: Callable[..., None] = staticmethod(lambda *, in_doubt: None)  # noqa: ARG005

    def __init__(self, item: dict[str, Any], outputs: list[Any]) -> None:
        self.item = item
        self.outputs = outputs
