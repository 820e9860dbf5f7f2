"""What a refresh is going to do, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchrun.core.errors import BatchrunError

_MOST_NAMED = 3


class AlreadyRefreshing(BatchrunError):
    """Another refresh of the same job is at work; nothing was done. The message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPlan:
    """What changed since an earlier execution of a job, and what that means for its items.

    Attributes:
        base_id: the earlier execution; null: there is none to go on from, so all items run.
        total_items: items of the dataset as it is now; the sum of the four counters below.
        full_items: run from their first node on.
        partial_items: run from an edited node on, with the earlier outputs of the nodes before it.
        reused_items: keep their row.
        updated_items: those of `reused_items` whose kept columns (`output.keep`) changed; their row says so.
        new_items: their id is not in the earlier execution.
        changed_items: the columns that the workflow reads have other values.
        failed_items: had failed in the earlier execution.
        removed_items: rows of the earlier execution whose id is gone.
        edited_nodes: nodes whose options or function changed, and new ones.
        is_output_edited: the output of the workflow, or its type, changed.
        is_relisted: which columns are kept (`output.keep`) changed.
        notes: what else people should know, such as why more runs than they might expect.
    """

    base_id: str | None
    total_items: int
    full_items: int
    partial_items: int = 0
    reused_items: int = 0
    updated_items: int = 0
    new_items: int = 0
    changed_items: int = 0
    failed_items: int = 0
    removed_items: int = 0
    edited_nodes: tuple[str, ...] = ()
    is_output_edited: bool = False
    is_relisted: bool = False
    notes: tuple[str, ...] = ()

    @property
    def has_work(self) -> bool:
        """Whether the earlier result is not what a new execution would give."""
        is_same = self.full_items == self.partial_items == self.updated_items == self.removed_items == 0
        return self.base_id is None or not is_same or self.is_relisted

    @property
    def text(self) -> str:
        """The plan in a line for people.

        Example:
            >>> plan = RefreshPlan(base_id="a", total_items=4_015, full_items=15, partial_items=4_000, new_items=12, changed_items=3,
            ...                    edited_nodes=("classify",))
            >>> plan.text
            '12 new, 3 changed, node classify edited → 15 items in full, 4,000 items from classify on'
        """
        if self.base_id is None:
            return f"no earlier execution to go on from → {_items(self.full_items)} in full"
        if not self.has_work:
            return f"nothing new since {self.base_id}"
        return f"{', '.join(self._reasons()) or 'nothing new'} → {', '.join(self._work())}"

    def _reasons(self) -> Iterator[str]:
        counts = {
            "new": self.new_items,
            "changed": self.changed_items,
            "failed before": self.failed_items,
            "removed": self.removed_items,
            "with other kept columns": self.updated_items,
        }
        yield from (f"{count:,} {what}" for what, count in counts.items() if count)
        if self.edited_nodes:
            yield f"{'nodes' if len(self.edited_nodes) > 1 else 'node'} {_named(self.edited_nodes)} edited"
        if self.is_output_edited:
            yield "the output edited"
        if self.is_relisted and not self.updated_items:
            yield "other columns kept"

    def _work(self) -> Iterator[str]:
        if self.full_items:
            yield f"{_items(self.full_items)} in full"
        if self.partial_items:
            yield f"{_items(self.partial_items)} from {_named(self.edited_nodes) if self.edited_nodes else 'the output'} on"
        if self.reused_items or not (self.full_items or self.partial_items):
            yield f"{_items(self.reused_items)} reused"


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"


def _named(nodes: tuple[str, ...]) -> str:
    more = f" and {len(nodes) - _MOST_NAMED:,} more" if len(nodes) > _MOST_NAMED else ""
    return ", ".join(nodes[:_MOST_NAMED]) + more
