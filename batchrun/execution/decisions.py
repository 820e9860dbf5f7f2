"""Decisions of persons about items that wait for them: found in the journal, and written there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from batchrun.core.errors import ExecutionError
from batchrun.core.items import KeptNode, shown_id
from batchrun.execution import control
from batchrun.execution.record import Record
from batchrun.results import Journal, Recovered
from batchrun.results.exports import json_lines
from batchrun.results.journal import NODES, is_locked
from batchrun.results.kept import is_waiting, nodes_frame
from batchrun.version import VERSION
from batchrun.workflows.decisions import Decision, decision_of, digest

_ITEMS_PER_REQUEST = 2_000
_LARGEST_OUTPUT_BYTES = 2**19  # of a decision that a running process is asked to write down
_LOOK_SECONDS = 0.1
_COMMIT_SECONDS = 0.3  # until a process that has taken a request has written down what it says
_PATIENCE_SECONDS = 60.0


class WaitingItem(NamedTuple):
    """An item that waits for a person.

    Attributes:
        id: its `source_item_id`, as in the `ndjson` export.
        node_id: the node that waits.
        shown: what the person is to decide about.
        since: when the person was first asked this.
        node: what the journal keeps of the node.
    """

    id: Any
    node_id: str
    shown: Any
    since: datetime
    node: KeptNode

    @property
    def is_decided_elsewhere(self) -> bool:
        """Whether the person decides at the service that does the work: the next resume asks there."""
        return self.node.checkpoint is not None

    @property
    def question(self) -> tuple[int, str, str]:
        """What is to be decided: of which item, at which node, about what."""
        return self.node.ordinal, self.node.node_id, digest(self.node.output or b"null")


def waiting_items(folder: Path) -> Iterator[WaitingItem]:
    """The items that wait for a person and about which nobody has decided yet, in the order they were written down.

    Reads without a lock: a process that runs the execution is not disturbed.

    Raises:
        ExecutionError: the journal cannot be read.
    """
    recovered = Recovered(folder)
    if recovered.waiting:
        recovered.read_open_items()
    for ordinals, rows in recovered.waiting_rows() if recovered.waiting else ():
        for ordinal, line in zip(ordinals, json_lines(rows.select(["source_item_id"])), strict=True):
            restored = recovered.item(ordinal)
            for node in restored.nodes if restored is not None else ():
                if is_waiting(node) and node.record is not None:
                    since = datetime.fromtimestamp((node.record[3] or 0) / 1e6, UTC)
                    shown = None if node.output is None else orjson.loads(node.output)
                    yield WaitingItem(orjson.loads(line)["source_item_id"], shown_id(node.node_id), shown, since, node)


def decide(folder: Path, decision: Decision, ids: Sequence[str] | None, node_id: str | None = None) -> list[WaitingItem]:
    """Write down what a person has decided. The items go on with the next resume; those of a running execution at its end.

    Args:
        folder: the execution's folder.
        decision: what was decided.
        ids: the `source_item_id`s of the items, as text; null: all that wait.
        node_id: the node that waits; null: the only one of each item.

    Returns:
        The items it was about.

    Raises:
        ExecutionError: an item does not wait, or waits at several nodes and none was named; nothing was written. Or the folder is
            none of an execution, or cannot be written to, or the process that runs it has not taken the decision up within a minute.
    """
    Record.read(folder)
    left = chosen = _chosen(folder, ids, node_id)
    end = time.monotonic() + _PATIENCE_SECONDS
    while left:
        # A process may end, or begin, at any moment, and what it was asked be lost with it: the journal tells what has come of it.
        if is_locked(folder):
            _ask(folder, left, decision, end)
        else:
            _write_unless_run(folder, left, decision)
        asked = {item.question for item in waiting_items(folder)}
        left = [item for item in left if item.question in asked]
    return chosen


def decided_nodes(settings: Any, total_items: int) -> list[KeptNode]:
    """What the journal keeps of the nodes that a request to a running process is about; nothing when it is none.

    Args:
        settings: of the request.
        total_items: of the execution.
    """
    match settings:
        case {"decision": dict() as fields, "nodes": list() as nodes} if (decision := decision_of(fields)) is not None:
            return [_decided(KeptNode(*node[:4]), decision, node[4]) for node in nodes if _is_node(node, total_items)]
    return []


def _is_node(node: Any, total_items: int) -> bool:
    match node:
        case [int(ordinal), int(), int(), str(), str()]:
            return 0 <= ordinal < total_items and not any(isinstance(number, bool) for number in node)
    return False


def _decided(node: KeptNode, decision: Decision, about: str) -> KeptNode:
    checkpoint = orjson.dumps(decision._replace(about=about)._asdict())
    return node._replace(node_attempts=0, record=None, output=None, checkpoint=checkpoint)


def _chosen(folder: Path, ids: Sequence[str] | None, node_id: str | None) -> list[WaitingItem]:
    waiting: dict[str, list[WaitingItem]] = {}
    elsewhere = ""
    for item in waiting_items(folder):
        if not item.is_decided_elsewhere:
            waiting.setdefault(_text(item.id), []).append(item)
        elif ids is None or _text(item.id) in ids:
            where = f"item {_text(item.id)} of {folder} waits at node {item.node_id}"
            elsewhere = elsewhere or f"{where} for a person at its service: {item.shown}"
    if elsewhere and (ids is not None or not waiting):
        raise ExecutionError(f"{elsewhere}. Decide there, then resume. Nothing was decided here")
    if ids is None:
        return [item for items in waiting.values() for item in items if node_id in (None, item.node_id)]
    chosen: list[WaitingItem] = []
    for id in dict.fromkeys(ids):
        if id not in waiting:
            known = f"{next(iter(waiting))} does" if waiting else "no item does"
            raise ExecutionError(
                f"item {id} of {folder} does not wait for a person, or somebody has decided about it; {known}. Nothing was decided"
            )
        nodes = {item.node_id for item in waiting[id] if node_id in (None, item.node_id)}
        if len(nodes) != 1:
            names = ", ".join(dict.fromkeys(item.node_id for item in waiting[id]))
            wrong = f"no node {node_id!r} of item {id} waits" if not nodes else f"several nodes of item {id} wait: name one with --node"
            raise ExecutionError(f"{wrong}; nodes that wait: {names}. Nothing was decided")
        chosen += [item for item in waiting[id] if item.node_id in nodes]  # a mapped workflow may ask once for each element
    return chosen


def _text(id: Any) -> str:
    return id if isinstance(id, str) else orjson.dumps(id).decode()


def _ask(folder: Path, items: Sequence[WaitingItem], decision: Decision, end: float) -> None:
    """Ask the process that runs the execution to write it down; it may be about to end.

    Raises:
        ExecutionError: it does not answer, or the decision is too large.
    """
    fields = decision._asdict()
    if len(orjson.dumps(fields)) > _LARGEST_OUTPUT_BYTES:
        raise ExecutionError(
            f"a process runs {folder}, and takes outputs of at most {_LARGEST_OUTPUT_BYTES:,} bytes: wait for its end, or pause it. "
            "Nothing was decided"
        )
    for first in range(0, len(items), _ITEMS_PER_REQUEST):
        nodes = [[*item.node[:4], item.question[2]] for item in items[first : first + _ITEMS_PER_REQUEST]]
        control.send(folder, "decide", {"decision": fields, "nodes": nodes})
    while control.has_requests(folder) and is_locked(folder):
        _refuse_after(end, folder)
        time.sleep(_LOOK_SECONDS)
    if is_locked(folder):
        time.sleep(_COMMIT_SECONDS)
        _refuse_after(end, folder)


def _refuse_after(end: float, folder: Path) -> None:
    if time.monotonic() > end:
        raise ExecutionError(
            f"the process that runs {folder} was asked, and has not answered for {_PATIENCE_SECONDS:g} s. What was decided holds when "
            "it does: batchrun show --waiting tells which items still wait"
        )


def _write_unless_run(folder: Path, items: Sequence[WaitingItem], decision: Decision) -> None:
    """Write it down, if no process has taken the execution on meanwhile."""
    try:
        journal = Journal(folder)
    except ExecutionError:
        if is_locked(folder):
            return
        raise
    try:
        journal.begin({"batchrun_version": VERSION, "process": os.getpid()})
        journal.append(NODES, nodes_frame([_decided(item.node, decision, item.question[2]) for item in items]))
        journal.sync()
    finally:
        journal.close()
