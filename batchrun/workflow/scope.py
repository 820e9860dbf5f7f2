"""What the templates and calls of one item can see."""

from __future__ import annotations

from typing import Any


class Scope:
    """The values of one item, filled in as its nodes end.

    One is made per item, so it has slots and no defaults to fill.

    Attributes:
        item: the columns the workflow reads, by name.
        outputs: the output of each node by its position in the plan; null until it ended, or when it was skipped.
        inputs: the inputs of the node that is being called.
        call_key: identifies this call across retries and resumes; only for nodes that ask for it.
        timeout_seconds: what is left for this attempt when it starts; null: no deadline.
    """

    __slots__ = ("call_key", "inputs", "item", "outputs", "timeout_seconds")

    def __init__(self, item: dict[str, Any], outputs: list[Any]) -> None:
        self.item = item
        self.outputs = outputs
        self.inputs: dict[str, Any] = {}
        self.call_key: str | None = None
        self.timeout_seconds: float | None = None
