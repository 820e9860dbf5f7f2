"""`batchrun results`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from batchrun.cli.folders import execution_folder
from batchrun.core.errors import JobError

if TYPE_CHECKING:
    import polars as pl

_CELL_CHARS = 60
_NOT_SHOWN = {"started_at", "completed_at", "reused_from", "node_executions"}


@click.command("results")
@click.argument("execution", default="latest")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder with the executions.")
@click.option("--head", type=click.IntRange(min=0), default=10, show_default=True, help="Rows to show.")
@click.option("--filter", "filter_", metavar="SQL", help="SQL expression over the result's columns: \"error.type = 'Timeout'\".")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON lines, with all columns.")
@click.option("--export", "formats", type=click.Choice(["csv", "ndjson", "arrow"]), multiple=True, help="Write all rows to a file instead.")
@click.option("--to", "target", type=click.Path(path_type=Path, file_okay=False), help="Folder for exports; default: the execution's.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str,
    *,
    runs: Path,
    head: int,
    filter_: str | None,
    as_json: bool,
    formats: tuple[Literal["csv", "ndjson", "arrow"], ...],
    target: Path | None,
) -> None:
    """Show, filter or export the result of EXECUTION: an id, the beginning of one, a folder, or "latest" (default)."""
    from polars.exceptions import PolarsError

    from batchrun.results import export_results, query_results, result_lines

    folder = execution_folder(execution, runs)
    if formats:
        if target is not None:
            _make(target)
        for path in export_results(folder, formats, target, filter_):
            click.echo(path)
        return
    if as_json:
        for line in result_lines(folder, filter_, head):
            click.echo(line)
        return
    try:
        frame = query_results(folder, filter_).head(head).collect()
    except PolarsError as error:  # the schema allows the filter, but the values do not
        raise JobError([f"filter {filter_!r} cannot be used: {str(error).partition(chr(10))[0]}"]) from None
    click.echo(_table(frame))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"cannot make the folder {folder}: {error.strerror}") from None


def _table(frame: pl.DataFrame) -> str:
    """Rows for people: one line each, without the columns that only programs need."""
    rows = [[name for name in frame.columns if name not in _NOT_SHOWN]]
    for row in frame.iter_rows(named=True):
        rows.append([_cell(name, row[name]) for name in rows[0]])
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in rows)


def _cell(name: str, value: object) -> str:
    from batchrun.workflows.encoding import encode

    if value is None:
        return "-"
    if name == "error" and isinstance(value, dict):
        text = f"{value['type']}: {value['message']}"
    elif isinstance(value, float):
        text = f"{value:.3f}"
    else:
        text = value if isinstance(value, str) else encode(value).decode()
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= _CELL_CHARS else f"{line[: _CELL_CHARS - 1]}…"
