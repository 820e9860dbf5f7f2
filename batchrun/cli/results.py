"""`batchrun results`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from batchrun.cli.folders import execution_folder
from batchrun.core.addresses import address_problem
from batchrun.core.output import Export

if TYPE_CHECKING:
    import polars as pl

Format: TypeAlias = Literal["csv", "ndjson", "arrow", "parquet", "delta"]

_CELL_CHARS = 60
_NOT_SHOWN = {"started_at", "completed_at", "reused_from", "node_executions"}


@click.command("results")
@click.argument("execution", default="latest")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Folder with the executions.")
@click.option("--head", type=click.IntRange(min=0), default=10, show_default=True, help="Rows to show.")
@click.option("--filter", "filter_", metavar="SQL", help="SQL expression over the result's columns: \"error.type = 'Timeout'\".")
@click.option("--json", "as_json", is_flag=True, help="Print rows as JSON lines, with all columns.")
@click.option("--with-source", is_flag=True, help="Have the columns of each item's row in the dataset at the end.")
@click.option(
    "--export",
    "formats",
    type=click.Choice(["csv", "ndjson", "arrow", "parquet", "delta"]),
    multiple=True,
    help="Write the rows to a file, to folders of files, or to a Delta table.",
)
@click.option(
    "--partition-by", "by", metavar="COLUMN", multiple=True, help="Of --export parquet: name folders by the values of this column."
)
@click.option("--escape-formulas", is_flag=True, help="Of --export csv: keep spreadsheets from taking texts for formulas.")
@click.option("--table", metavar="PATH", help="Of --export delta: the table to commit to, a folder or an address; default: delta, beside.")
@click.option("--to", "target", type=click.Path(path_type=Path, file_okay=False), help="Folder for exports; default: the execution's.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str,
    *,
    runs: Path,
    head: int,
    filter_: str | None,
    as_json: bool,
    with_source: bool,
    formats: tuple[Format, ...],
    by: tuple[str, ...],
    escape_formulas: bool,
    table: str | None,
    target: Path | None,
) -> None:
    """Show, filter or export the result of EXECUTION: an id, the beginning of one, a folder, or "latest" (default)."""
    from polars.exceptions import PolarsError

    from batchrun.results import Rows, export_results, result_lines
    from batchrun.results.reader import bad_filter, matching

    folder = execution_folder(execution, runs)
    exports = _exports(formats, by, table, escape_formulas=escape_formulas)
    if with_source:
        from batchrun.execution import Record
        from batchrun.execution.sourced import rows_with_source

        rows = rows_with_source(Record.read(folder))
    else:
        rows = Rows.of(folder)
    if exports:
        if target is not None:
            _make(target)
        for export, path in zip(exports, export_results(folder, exports, target, filter_, rows), strict=True):
            click.echo(export.path or path)
        return
    if as_json:
        for line in result_lines(folder, filter_, head, rows):
            click.echo(line)
        return
    try:
        frame = (rows.frame if filter_ is None else matching(rows.frame, filter_)).head(head).collect()
    except PolarsError as error:  # the schema allows the filter, but the values do not
        raise bad_filter(error, filter_ or "", rows.frame) from None
    click.echo(_page(frame))


def _exports(formats: Sequence[Format], by: tuple[str, ...], table: str | None, *, escape_formulas: bool) -> list[Export]:
    for option, is_given, fitting in (
        ("--partition-by", bool(by), "parquet"),
        ("--escape-formulas", escape_formulas, "csv"),
        ("--table", table is not None, "delta"),
    ):
        if is_given and fitting not in formats:
            raise click.UsageError(f"{option} belongs to --export {fitting}")
    if "parquet" in formats and not by:
        raise click.UsageError("--export parquet needs --partition-by COLUMN; results.parquet is there anyway")
    return [
        Export(
            type=name,
            partition_by=by if name == "parquet" else (),
            escape_formulas=escape_formulas and name == "csv",
            path=_place(table) if name == "delta" else None,
        )
        for name in dict.fromkeys(formats)
    ]


def _place(table: str | None) -> str | None:
    """Where a table is, relative to the working directory."""
    if table is None or "://" not in table:
        return table if table is None else str(Path(table).expanduser().absolute())
    if (wrong := address_problem(table, "table")) is not None:
        raise click.UsageError(f"--table: {wrong}")
    return table


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"cannot make the folder {folder}: {error.strerror}") from None


def _page(frame: pl.DataFrame) -> str:
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
