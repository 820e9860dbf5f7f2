"""`batchrun diff`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.folders import execution_folder
from batchrun.cli.text import counted, duration, one_line, table

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.results import DiffCounts

_CELL_CHARS = 40


@click.command("diff")
@click.argument("before")
@click.argument("after", default="latest")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder with the executions.")
@click.option("--head", type=click.IntRange(min=0), default=20, show_default=True, help="Items to show.")
@click.option("--json", "as_json", is_flag=True, help="Print every item that is different, one JSON object a line.")
def command(before: str, after: str, *, runs: Path, head: int, as_json: bool) -> None:
    """Compare the results of two executions by source_item_id: outputs, statuses, errors, and items that only one has.

    BEFORE and AFTER are ids, beginnings of ids, folders, or "latest", which AFTER is by default. The counts go to standard error.
    """
    from batchrun.results import diff_results
    from batchrun.results.exports import json_lines

    diff = diff_results(execution_folder(before, runs), execution_folder(after, runs))
    if as_json:
        for batch in diff.batches():
            for row in json_lines(batch):
                click.echo(row)
    elif diff.rows.height and head:
        batch = next(diff.batches()).slice(0, head)
        for line in list(table(("item", "change", "before", "after", "ms before", "ms after"), list(_rows(batch))))[1:]:
            click.echo(line)
        if diff.rows.height > batch.num_rows:
            click.echo(f"… and {diff.rows.height - batch.num_rows:,} more: --head, or --json for all of them")
    click.echo("\n".join(_counts(diff.counts)), err=True)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[str, ...]]:
    """Of each item what is different, for people."""
    for row in batch.to_pylist():
        sides = ("before", "after")
        texts = [_told(row, side) for side in sides]
        times = ["-" if row[f"duration_ms_{side}"] is None else f"{row[f'duration_ms_{side}']:,.1f}" for side in sides]
        yield (str(row["source_item_id"]), ", ".join(row["changed"]) or row["change"], *texts, *times)


def _told(row: dict[str, object], side: str) -> str:
    status, error = row[f"status_{side}"], row[f"error_type_{side}"]
    if status is None:
        return "-"
    changed: list[str] = row["changed"]  # type: ignore[assignment] # a column of lists of text
    text = _output(str(row[f"output_{side}"]), changed) if status == "completed" else f"{status}: {error}" if error else str(status)
    return one_line(text, _CELL_CHARS)


def _output(text: str, changed: list[str]) -> str:
    """Of an output the fields that changed, or all of it."""
    import json

    value = json.loads(text) if text != "None" else None
    names = [name.removeprefix("output.") for name in changed if name.startswith("output.")]
    if isinstance(value, dict) and names:
        value = value.get(names[0]) if len(names) == 1 else {name: value.get(name) for name in names}
    return json.dumps(value, ensure_ascii=False)


def _counts(counts: DiffCounts) -> Iterator[str]:
    yield (
        f"{counted(counts.changed_items, 'item')} changed, {counts.unchanged_items:,} unchanged, "
        f"{counts.added_items:,} only in the later one, {counts.removed_items:,} only in the earlier one"
    )
    if counts.changed_fields:
        yield "changed: " + ", ".join(f"{one_line(name)} in {count:,}" for name, count in counts.changed_fields.items())
    if counts.statuses:
        yield "statuses: " + ", ".join(f"{was} → {now} {count:,}" for (was, now), count in counts.statuses.items())
    yield f"time of the items of both: {duration(counts.before_ms / 1000)} → {duration(counts.after_ms / 1000)}"
