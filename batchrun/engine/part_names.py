"""Which node a record of a part of a call belongs to: such records have positions below 0."""

from __future__ import annotations

from batchrun.core.items import NodeRecord, PartRecord
from batchrun.workflows.plan import Plan


class PartNames:
    """The names of the nodes of parts, as one engine sees them.

    Args:
        prefix: goes before the ids of the engine's own nodes; empty: they belong to no part.
        names: id and type of each node of a part, shared by all engines; the record of the n-th has the position -1 - n.

    Example:
        >>> names = PartNames("triage.", [])
        >>> names.position("triage.clean", "python"), names.position("triage.send", "http")
        (-1, -2)
    """

    def __init__(self, prefix: str, names: list[tuple[str, str]]) -> None:
        self._prefix = prefix
        self._names = names

    def position(self, node_id: str, node_type: str) -> int:
        """The position of the records of a node of a part; called from any thread."""
        name = (node_id, node_type)
        if name not in self._names:
            self._names.append(name)
        return -1 - self._names.index(name)

    def positions(self, plan: Plan) -> list[int]:
        """The positions of the engine's own nodes, when they belong to parts."""
        return [self.position(f"{self._prefix}{step.id}", step.type) for step in plan.steps] if self._prefix else []

    def is_part_of(self, step_id: str, record: NodeRecord) -> bool:
        """Whether a record is one of a part of a call of this node."""
        return record[0] < 0 and self._names[-1 - record[0]][0].startswith(f"{self._prefix}{step_id}.")

    def written(self, record: NodeRecord) -> PartRecord:
        """A record of a part as it can be read by engines that number the names otherwise."""
        return PartRecord(*self._names[-1 - record[0]], record)

    def read(self, part: PartRecord) -> NodeRecord:
        """The same the other way round."""
        return (self.position(part.node_id, part.node_type), *part.record[1:])
