"""What `approve` and `reject` have in common, and the page of what waits."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.folders import near
from batchrun.cli.text import counted, local_time, safe

if TYPE_CHECKING:
    from batchrun.client import Execution
    from batchrun.execution.decisions import WaitingItem

_SHOWN = 20
_LINE_CHARS = 200


def chosen(items: Sequence[str], *, everything: bool) -> Sequence[str] | None:
    """The ids that were given; null: all that wait.

    Raises:
        UsageError: neither or both were given.
    """
    if bool(items) == everything:
        raise click.UsageError("say which items: --item ID, as often as wanted, or --all")
    return None if everything else items


def decided(execution: Execution, word: str, items: Sequence[WaitingItem]) -> str:
    """What was decided, and what to do next."""
    if not items:
        return f"no item of {execution.id} waits for a person: there is nothing to do"
    done = f"{word} {counted(_items(items), 'item')} of {execution.id}"
    if execution.look() == "running":
        return f"{done}: they go on at the end of this run"
    return f"{done}; to go on: batchrun resume {safe(shlex.quote(str(near(execution.folder))))}"


def waiting_page(execution: Execution, *, as_json: bool) -> str:
    """The items that wait for a person, with what each is to decide about."""
    items = execution.waiting_items()
    if as_json:
        return "\n".join(json.dumps(_plain(item), ensure_ascii=False) for item in items)
    if not items:
        return f"no item of {execution.id} waits for a person"
    count = _items(items)
    lines = [f"{counted(count, 'item')} of {execution.id} {'waits' if count == 1 else 'wait'} for a person"]
    for item in items[:_SHOWN]:
        shown = safe(json.dumps(item.shown, ensure_ascii=False))
        shown = shown if len(shown) <= _LINE_CHARS else f"{shown[:_LINE_CHARS]}…"
        lines.append(f"  {safe(str(item.id))}  {item.node_id}  since {local_time(item.since.isoformat())}  {shown}")
    if len(items) > _SHOWN:
        lines.append(f"  … and {len(items) - _SHOWN:,} more: --json lists all")
    named = safe(shlex.quote(str(near(execution.folder))))
    if all(item.is_decided_elsewhere for item in items):
        return "\n".join([*lines, f"to go on when somebody has decided at the service: batchrun resume {named}"])
    return "\n".join([*lines, f"to decide: batchrun approve {named} --item ID, or reject; --all for all of them"])


def _items(items: Sequence[WaitingItem]) -> int:
    """How many items wait: one may do so at several nodes, or for several elements of a list."""
    return len({item.node.ordinal for item in items})


def _plain(item: WaitingItem) -> dict[str, Any]:
    return {"source_item_id": item.id, "node_id": item.node_id, "since": item.since.isoformat(), "shown": item.shown}
