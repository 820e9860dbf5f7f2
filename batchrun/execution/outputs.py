"""What a job says of its result, checked against the columns that the result will have."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from batchrun.core.errors import Problem, known_values
from batchrun.core.job import LoadedJob
from batchrun.core.output import Export, Output
from batchrun.net.objects import NOT_INSTALLED, is_installed
from batchrun.results import PARTITION_TYPES, RESULT_COLUMNS
from batchrun.workflows.types import TypeSpec, field_name


def keep_problems(keep: tuple[str, ...], columns: Collection[str]) -> Iterator[Problem]:
    """Kept columns that the dataset does not have, or that the result has already."""
    for index, column in enumerate(keep):
        path = ("output", "keep", index)
        if column not in columns:
            yield Problem(path, f'unknown column "{column}"; {known_values(column, columns, kind="columns")}')
        elif column in RESULT_COLUMNS:
            yield Problem(path, f'"{column}" is a column of the result itself; rename it with dataset.with_columns')


def output_problems(output: Output, spec: TypeSpec | None, kept: Mapping[str, str]) -> Iterator[Problem]:
    """What is wrong with `output.flatten` and `output.export`.

    Args:
        output: of the job.
        spec: type of the output column; null: JSON text.
        kept: the readable types of the kept columns.
    """
    flat: Mapping[str, TypeSpec] = {}
    if output.flatten:
        if isinstance(spec, dict):
            flat = {field_name(key): inner for key, inner in spec.items()}
            yield from _collisions(flat, kept)
        else:
            found = "JSON text" if spec is None else f"of type {spec}"
            message = f"needs an output with named fields, but it is {found}; give workflow.output_schema, such as {{label: string}}"
            yield Problem(("output", "flatten"), message)
    types = {"status": "string", **kept, **flat}
    for index, export in enumerate(output.export):
        if not isinstance(export, str):
            for at, column in enumerate(export.partition_by):
                if (unfit := _unfit(column, types)) is not None:
                    yield Problem(("output", "export", index, "partition_by", at), unfit)


def publish_problems(output: Output) -> Iterator[Problem]:
    """What is wrong with `output.publish` on this machine."""
    if output.publish is not None and not is_installed():
        yield Problem(("output", "publish"), NOT_INSTALLED)


def exports_of(loaded: LoadedJob) -> list[Export]:
    """The exports of a job, with the paths of tables as they are from anywhere."""
    return [
        replace(each, path=str(loaded.folder / Path(each.path).expanduser())) if each.path is not None and "://" not in each.path else each
        for each in loaded.job.output.exports
    ]


def _collisions(flat: Mapping[str, TypeSpec], kept: Mapping[str, str]) -> Iterator[Problem]:
    for name in flat:
        if name in RESULT_COLUMNS:
            yield Problem(
                ("output", "flatten"),
                f'the field "{name}" of the output would have the name of the result\'s own column "{name}"; rename the field',
            )
        elif name in kept:
            yield Problem(
                ("output", "flatten"),
                f'the field "{name}" of the output and the kept column "{name}" would have the same name; '
                f"rename the field, or the column with dataset.with_columns",
            )


def _unfit(column: str, types: Mapping[str, TypeSpec]) -> str | None:
    """Why the values of a column cannot name folders; null when they can."""
    if column not in types:
        known = known_values(column, types, kind="columns")
        return f'"{column}" is neither a kept column (output.keep), a field of the output (output.flatten) nor the status; {known}'
    kind = types[column]
    plain = kind if isinstance(kind, str) else "struct or list"
    if plain.startswith("dictionary") or plain in PARTITION_TYPES:
        return None
    return f'"{column}" is of type {plain}; values of {", ".join(PARTITION_TYPES)} can name folders'
