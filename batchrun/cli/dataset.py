"""`batchrun dataset`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.text import counted, local_time, one_line, table

if TYPE_CHECKING:
    from batchrun.core.dataset_versions import DatasetVersion
    from batchrun.core.job import Dataset

_HEADER = ("name", "version", "rows", "columns", "size", "made", "kept", "tags", "from")
_PATH_CHARS = 60


@click.group("dataset")
def command() -> None:
    """Make, show, compare, tag and remove versions of named datasets.

    A version is NAME@3, NAME@TAG, NAME@latest or NAME@2026-11-01: the newest one of that day. NAME alone is the latest. They
    are kept in .batchrun/datasets in the working directory, or in the folder that BATCHRUN_HOME names.
    """


@command.command("add")
@click.argument("name")
@click.argument("path")
@click.option("--copy", is_flag=True, help="Keep a copy of the files. Otherwise they are read where they are, and must stay as they are.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="How the files are read: format=csv, csv.delimiter=';'.")
@click.option("--json", "as_json", is_flag=True, help="Print the version as JSON.")
def add(name: str, path: str, *, copy: bool, settings: tuple[str, ...], as_json: bool) -> None:
    """Make a version of dataset NAME of the files at PATH: a file, a folder or a glob.

    When the latest version has this content, none is made.
    """
    from batchrun.execution import Registry

    version, is_new, note = Registry().add(name, _dataset(path, settings), copy=copy)
    if as_json:
        click.echo(_json({**version.plain(), "is_new": is_new}))
        return
    click.echo(version.label)
    size = f"{counted(version.content.row_count, 'row')}, {counted(len(version.content.columns), 'column')}"
    told = f"made: {size}" if is_new else "nothing has changed: its latest version has this content"
    click.echo(told + (f"; {note}" if note else ""), err=True)


@command.command("list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the versions as a JSON list.")
def list_(name: str | None, *, as_json: bool) -> None:
    """List the latest version of each dataset, or all versions of NAME, newest first."""
    from batchrun.execution import Registry

    registry = Registry()
    versions = registry.latest() if name is None else registry.versions(name)
    if as_json:
        click.echo(_json([version.plain() for version in versions]))
    elif versions:
        click.echo("\n".join(table(_HEADER, [_row(version) for version in versions])).lstrip("\n"))
    else:
        click.echo("there are no named datasets; to make one: batchrun dataset add NAME PATH", err=True)


@command.command("show")
@click.argument("reference", metavar="NAME[@VERSION]")
@click.option("--head", type=click.IntRange(min=0), default=5, show_default=True, help="Rows to show.")
@click.option("--json", "as_json", is_flag=True, help="Print the version, its rows and the numbers of all versions as JSON.")
def show(reference: str, *, head: int, as_json: bool) -> None:
    """Show a version: its columns with null counts, smallest and largest values, its first rows, and the other versions."""
    from batchrun.cli.dataset_page import plain_page, version_page
    from batchrun.core.errors import BatchrunError
    from batchrun.execution import Registry

    registry = Registry()
    version = registry.get(reference)
    rows, problem = [], None
    try:
        rows = registry.head(version.label, head) if head else []
    except BatchrunError as error:  # what is known of the version is shown all the same
        problem = str(error)
    others, used = registry.versions(version.name), registry.used_by(version.name).get(version.version, [])
    if as_json:
        click.echo(plain_page(version, rows, others, used))
    else:
        click.echo(version_page(version, rows, others, used))
    if problem is not None:
        click.echo(f"no rows are shown: {problem}", err=True)


@command.command("diff")
@click.argument("name")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--key", required=True, metavar="COLUMN", help="The column that names each row; unique and never null in both.")
@click.option("--examples", type=click.IntRange(min=0), default=5, show_default=True, help="Rows of each kind to show.")
@click.option("--json", "as_json", is_flag=True, help="Print the difference as JSON.")
def diff(name: str, before: str, after: str, *, key: str, examples: int, as_json: bool) -> None:
    """Show what changed from version A of dataset NAME to version B: rows added, removed and changed, and in which columns."""
    from batchrun.cli.dataset_page import diff_page, plain_diff
    from batchrun.execution import Registry

    found = Registry().diff(name, before, after, key, examples)
    click.echo(plain_diff(found) if as_json else diff_page(found, key))


@command.command("tag")
@click.argument("reference", metavar="NAME@VERSION")
@click.argument("tag")
@click.option("--remove", "is_removed", is_flag=True, help="Take the tag away instead; NAME alone will do then.")
def tag(reference: str, tag: str, *, is_removed: bool) -> None:
    """Call a version by TAG. A tag that another version has moves."""
    from batchrun.core.dataset_names import DatasetError
    from batchrun.execution import Registry

    registry, name = Registry(), reference.partition("@")[0]
    if is_removed:
        before = registry.untag(name, tag)
        click.echo(f"{name} has no tag {tag}" if before is None else f"{name}@{before} is no longer tagged {tag}", err=True)
        return
    if "@" not in reference:
        raise DatasetError(f"say which version of {name} is meant: {name}@latest, or {name}@ and a number")
    version = registry.get(reference)
    before = registry.tag(version.label, tag)
    moved = f"; {name}@{before} was until now" if before is not None and before != version.version else ""
    click.echo(f"{version.label} is tagged {tag}{moved}", err=True)


@command.command("remove")
@click.argument("reference", metavar="NAME[@VERSION]")
@click.option("--keep", type=click.IntRange(min=0), help="Remove all versions of NAME but the newest so many.")
@click.option("--force", is_flag=True, help="Also versions that have a tag, or that listed executions were run on.")
def remove(reference: str, *, keep: int | None, force: bool) -> int:
    """Remove a version, or old ones, and the copies that no other version needs.

    Files that are no copies stay as they are. Exits with 1 when none of the chosen versions could be removed.
    """
    from batchrun.execution import Registry

    removed = Registry().remove(reference, keep=keep, force=force)
    for version in removed.versions:
        click.echo(version.label)
    for version, reason in removed.kept:
        click.echo(f"kept {version.label}: {reason}; to remove it all the same: --force", err=True)
    if removed.freed_bytes:
        click.echo(f"freed {size_text(removed.freed_bytes)}", err=True)
    if removed.are_files_left:
        click.echo("copies stay for now, as a version is being added; the next removal deletes them", err=True)
    return 1 if removed.kept and not removed.versions else 0


def size_text(size_bytes: int) -> str:
    """A size as people say it: `812 B`, `3.4 MB`."""
    size, units = float(size_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "B" else f"{size:,.1f} {units[0]}"


def _dataset(path: str, settings: tuple[str, ...]) -> Dataset:
    """The files at a path, with how they are read as a job would say it."""
    from batchrun.config import load_job

    overrides = [f"dataset.{setting}" for setting in settings]
    return load_job({"dataset": {"path": path}, "workflow": "builtins:str"}, overrides, folder=Path()).dataset


def _row(version: DatasetVersion) -> tuple[str, ...]:
    content = version.content
    return (
        version.name,
        str(version.version),
        f"{content.row_count:,}",
        str(len(content.columns)),
        size_text(content.size_bytes),
        local_time(version.created_at.isoformat()),
        "copy" if version.is_copy else "in place",
        ", ".join(version.tags) or "-",
        one_line(version.path, _PATH_CHARS) or "a data frame",
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
