"""The pages of a version of a dataset, and of the difference of two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from batchrun.cli.dataset import size_text
from batchrun.cli.page import field
from batchrun.cli.text import counted, local_time, one_line, table
from batchrun.core.dataset_versions import Column, DatasetVersion
from batchrun.datasets import DatasetDiff
from batchrun.workflows.encoding import encode

_CELL_CHARS = 40
_MOST_COLUMNS = 8
_MOST_VERSIONS = 20

Rows = Sequence[Mapping[str, Any]]


def version_page(version: DatasetVersion, rows: Rows, others: Sequence[DatasetVersion], used: Sequence[str]) -> str:
    """All there is to say about a version.

    Args:
        version: the version.
        rows: its first rows.
        others: all versions of the dataset, newest first.
        used: the executions that were run on it.
    """
    return "\n".join(_version_lines(version, rows, others, used))


def plain_page(version: DatasetVersion, rows: Rows, others: Sequence[DatasetVersion], used: Sequence[str]) -> str:
    """The same as JSON."""
    return encode({**version.plain(), "rows": list(rows), "versions": [each.version for each in others], "used_by": list(used)}).decode()


def diff_page(diff: DatasetDiff, key: str) -> str:
    """What changed from one version to another.

    Args:
        diff: the difference.
        key: the column that names each row.
    """
    return "\n".join(_diff_lines(diff, key))


def plain_diff(diff: DatasetDiff) -> str:
    """The same as JSON."""
    names = [name for name in type(diff).__slots__ if name != "changed"]
    changed = [{"key": row.key, "columns": {name: list(values) for name, values in row.columns.items()}} for row in diff.changed]
    return encode({**{name: getattr(diff, name) for name in names}, "changed": changed}).decode()


def _version_lines(version: DatasetVersion, rows: Rows, others: Sequence[DatasetVersion], used: Sequence[str]) -> Iterator[str]:
    content = version.content
    yield field("dataset", version.label + (f" ({', '.join(version.tags)})" if version.tags else ""))
    yield field("rows", f"{content.row_count:,}")
    yield field(
        "files", f"{len(content.files):,} {content.format}, {size_text(content.size_bytes)}, {'copied' if version.is_copy else 'in place'}"
    )
    of_table = f", version {version.options['version']}" if content.format == "delta" else ""
    yield field("from", f"{one_line(version.path)}{of_table}" if version.path else "a data frame")
    yield field("made", local_time(version.created_at.isoformat()))
    yield field("content", content.fingerprint)
    if used:
        yield field("used by", ", ".join(used[:3]) + (f" and {len(used) - 3:,} more" if len(used) > 3 else ""))
    yield from table(("column", "type", "nulls", "min", "max"), [_column(column) for column in content.columns])
    if rows:
        names = list(rows[0])[:_MOST_COLUMNS]
        yield from table(names, [[_cell(row[name]) for name in names] for row in rows])
        if len(rows[0]) > _MOST_COLUMNS:
            yield f"and {counted(len(rows[0]) - _MOST_COLUMNS, 'column')} more; all of them: --json"
    lines = [
        (str(each.version), local_time(each.created_at.isoformat()), f"{each.content.row_count:,}", ", ".join(each.tags)) for each in others
    ]
    yield from table(("version", "made", "rows", "tags"), lines[:_MOST_VERSIONS])
    if len(lines) > _MOST_VERSIONS:
        yield f"and {len(lines) - _MOST_VERSIONS:,} older ones: batchrun dataset list {version.name}"


def _column(column: Column) -> tuple[str, ...]:
    return column.name, column.type, f"{column.null_count:,}", _cell(column.min), _cell(column.max)


def _diff_lines(diff: DatasetDiff, key: str) -> Iterator[str]:
    yield field("added", counted(diff.added_rows, "row"))
    yield field("removed", counted(diff.removed_rows, "row"))
    yield field("changed", counted(diff.changed_rows, "row"))
    yield field("same", counted(diff.unchanged_rows, "row"))
    changes = [(f'"{name}"', "added", kind) for name, kind in diff.added_columns.items()]
    changes += [(f'"{name}"', "removed", kind) for name, kind in diff.removed_columns.items()]
    changes += [(f'"{name}"', "retyped, not compared", f"{was} → {now}") for name, (was, now) in diff.retyped_columns.items()]
    if changes:
        yield from table(("column", "is", "type"), changes)
    if diff.changed_columns:
        yield from table(("changed column", "rows"), [(name, f"{count:,}") for name, count in diff.changed_columns.items()])
    if diff.changed:
        cells = [(_cell(row.key), name, _cell(was), _cell(now)) for row in diff.changed for name, (was, now) in row.columns.items()]
        yield from table((key, "column", "before", "after"), cells)
    for what, rows in (("added", diff.added), ("removed", diff.removed)):
        if rows:
            names = list(dict.fromkeys([key, *rows[0]]))[:_MOST_COLUMNS]
            yield from table((f"{what}: {key}", *names[1:]), [[_cell(row[name]) for name in names] for row in rows])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return one_line(value if isinstance(value, str) else encode(value).decode(), _CELL_CHARS)
