"""An item on its way in, and its result on its way out.

These are tuples because one is made per item: a million of them are the cost of a small dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from batchrun.core.errors import ErrorRecord

ItemStatus: TypeAlias = Literal["completed", "failed", "skipped", "waiting", "cancelled"]
NodeStatus: TypeAlias = Literal["completed", "failed", "skipped", "waiting", "cancelled"]

DONE_STATUSES: tuple[ItemStatus, ...] = ("completed", "failed", "skipped")
ITEM_STATUSES: tuple[ItemStatus, ...] = (*DONE_STATUSES, "waiting", "cancelled")


class Window(Protocol):
    """A slice of the dataset that stays in Arrow form for as long as one of its items is open.

    `columns` is a `pyarrow.RecordBatch` of `source_item_id`, `item_index` and the kept source columns, one row per
    item of the slice: what the result copies is never turned into Python values.
    """

    @property
    def columns(self) -> Any:
        """The record batch."""


class Item(NamedTuple):
    """One row of the loaded dataset version.

    Attributes:
        ordinal: 0, 1, 2, … in the order the items were loaded; without gaps.
        item_index: the row's position in the dataset version before the filter.
        id: `source_item_id`: the value of the id column, else `item_index`.
        data: the columns the workflow reads, by name.
        window: where the copied columns of this row are.
        row: the row's position in `window.columns`.
    """

    ordinal: int
    item_index: int
    id: Any
    data: dict[str, Any]
    window: Window
    row: int


class Usage(NamedTuple):
    """What calls of a node cost.

    Attributes:
        cost: in the unit of the budget.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


class Told(Usage):
    """What calls of a node cost, and what else they said about themselves: whoever counts costs need not know of it.

    Attributes:
        prompt: what was sent to a model, for people.
        external_id: what the service that did the work calls it.
    """

    prompt: str | None = None
    external_id: str | None = None

    @classmethod
    def of(cls, usage: Usage | None, prompt: str | None, external_id: str | None = None) -> Told:
        """A usage, null for none, with what was said besides."""
        told = cls(*(usage or ()))
        told.prompt, told.external_id = prompt, external_id
        return told


NodeRecord: TypeAlias = tuple[
    int,  # position of the node in the plan; negative for a node that ran as part of a call of another one, see `ResultLayout.parts`
    NodeStatus,
    int,  # attempts: calls that were not throttled
    int | None,  # started_at, µs since the epoch; null when the node never ran
    float,  # duration_ms of the last call
    bytes | None,  # input, JSON
    bytes | None,  # output, JSON
    ErrorRecord | None,
    str | None,  # call_key
    Usage | None,  # what the call cost; a `Told` where it said more about itself
    bool,  # whether the output came from the cache
]
"""One node execution. A plain tuple: three of them are made per item of a three-node workflow."""


class PartRecord(NamedTuple):
    """One node execution of a part of a call, wherever it is read.

    Attributes:
        node_id: with the ids of the nodes whose calls it is part of: `outer.inner`.
        record: as in `NodeRecord`, whose position says nothing here.
    """

    node_id: str
    node_type: str
    record: NodeRecord


class ItemResult(NamedTuple):
    """What became of one item: one row of the result.

    Attributes:
        output: JSON text, or a checked Python value when the result has a typed output column.
        started_at: µs since the epoch; null when the item never ran.
        duration_ms: from the first node's start to the last one's end, waits included.
        nodes: one record per node execution, in the order they ended.
    """

    item: Item
    status: ItemStatus
    output: Any
    error: ErrorRecord | None
    attempts: int
    started_at: int | None
    duration_ms: float
    nodes: tuple[NodeRecord, ...] | list[NodeRecord]


class KeptNode(NamedTuple):
    """What one node of an item that is not completed has come to: what a resume or a retry goes on from.

    Attributes:
        item_attempts: attempts of the item so far.
        node_attempts: calls of the node that failed and were not throttled, while it has not ended.
        record: its node execution; null while it has not ended.
        output: its output as JSON; null while it has not ended.
        checkpoint: the last value a running call left, as JSON.
        epoch: the run that kept it: 1 for the first run of the execution; 0: this one.
        parts: the node executions of the parts of its call, once it has ended.
        code: tells what the node did then from what it does after an edit; empty: not known.
        is_before_edit: of a part of a call: the workflow was edited since.
    """

    ordinal: int
    item_index: int
    item_attempts: int
    node_id: str
    node_attempts: int = 0
    record: NodeRecord | None = None
    output: bytes | None = None
    checkpoint: bytes | None = None
    epoch: int = 0
    parts: tuple[PartRecord, ...] = ()
    code: str = ""
    is_before_edit: bool = False


def shown_id(node_id: str) -> str:
    """The id of a node as people see it: what the journal keeps of parts of calls also says which part it is.

    Example:
        >>> shown_id("triage/classify:0~5f3a/classify")
        'triage.classify'
    """
    return ".".join(node_id.split("/")[::2])


class RestoredItem(NamedTuple):
    """Where an item goes on that an earlier run of the execution began, or that is run again by a retry.

    Attributes:
        attempts: of the item, the one that begins now included.
        generation: how often it was chosen by a retry; goes into call keys.
        nodes: what is kept of its nodes, at most one entry per node.
        earlier_attempts: calls of each node before the last retry, by node id; they only add to what is recorded.
    """

    attempts: int
    generation: int
    nodes: tuple[KeptNode, ...]
    earlier_attempts: Mapping[str, int]
