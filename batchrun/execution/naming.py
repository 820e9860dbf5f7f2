"""Versions of named datasets in place of what a job calls them, found before the first item and compared with their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from batchrun.core.dataset_names import LATEST, NoSuchDataset
from batchrun.core.dataset_versions import DatasetVersion
from batchrun.core.errors import JobError, Problem
from batchrun.core.formats import CsvFormat, FilesFormat
from batchrun.core.job import Dataset, LoadedJob
from batchrun.datasets import DataFile, Source, is_delta, object_of, open_source, table_version
from batchrun.store import DatasetStore, StoreError, end_of

_SHOWN = 5


class Pinned(NamedTuple):
    """The version of a named dataset that a job reads.

    Attributes:
        version: the version.
        wanted: what the job called it.
        objects: the folder of the copies.
    """

    version: DatasetVersion
    wanted: int | str
    objects: Path

    @property
    def number(self) -> int:
        """The number of the version."""
        return self.version.version


class PinnedTable(NamedTuple):
    """The version of a Delta table that a job reads.

    Attributes:
        number: the number of the version.
        wanted: what the job called it.
    """

    number: int
    wanted: int | str


def pin(loaded: LoadedJob, home: Path | None) -> tuple[LoadedJob, Pinned | PinnedTable | None]:
    """Find the version that a job names, of a named dataset or of a Delta table. Returns the job with its number in the place of its name.

    Args:
        loaded: the job.
        home: the folder of the store; null: see `store_home`.

    Raises:
        JobError: there is no such dataset or version, or the store cannot be read.
    """
    dataset = loaded.dataset
    if dataset.name is None:
        return _pin_table(loaded)
    wanted = dataset.version if dataset.version is not None else LATEST
    try:
        with DatasetStore.open(home) as datasets:
            version = datasets.find(dataset.name, wanted)
            objects = datasets.files.objects
    except NoSuchDataset as error:
        raise JobError([Problem(("dataset", error.field), str(error))]) from error
    except StoreError as error:
        raise JobError([Problem(("dataset", "name"), str(error))]) from error
    chosen = replace(dataset, version=version.version)
    return replace(loaded, dataset=chosen, job=replace(loaded.job, dataset=chosen)), Pinned(version, wanted, objects)


def pinned_table(dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with the number of the version of a Delta table in the place of what it is called; others as they are.

    Raises:
        JobError: there is no such version.
    """
    wanted = dataset.version
    if not is_delta(dataset, folder):
        return dataset
    until = None
    if isinstance(wanted, str) and wanted != LATEST and not wanted.isdecimal():
        until = end_of(wanted)
        if until is None:
            message = f"{wanted!r} is no version of a Delta table; it is {LATEST}, a number, a date (2026-11-01) or a time ago (7d)"
            raise JobError([Problem(("dataset", "version"), message)])
    return replace(dataset, version=table_version(dataset, folder, until))


def _pin_table(loaded: LoadedJob) -> tuple[LoadedJob, PinnedTable | None]:
    dataset = loaded.dataset
    chosen = pinned_table(dataset, loaded.folder)
    if chosen is dataset or chosen.version is None:
        return loaded, None
    wanted = dataset.version if dataset.version is not None else LATEST
    return replace(loaded, dataset=chosen, job=replace(loaded.job, dataset=chosen)), PinnedTable(int(chosen.version), wanted)


def open_dataset(dataset: Dataset, folder: Path, pinned: Pinned | PinnedTable | None) -> Source:
    """Find and check the files of a job's dataset; see `open_source`.

    Args:
        dataset: of the job.
        folder: what relative paths start from.
        pinned: the version, when the dataset is a named one.

    Raises:
        JobError: with every problem found.
    """
    if not isinstance(pinned, Pinned):
        return open_source(dataset, folder)
    return open_version(pinned.version, pinned.objects, dataset)


def open_version(version: DatasetVersion, objects: Path, dataset: Dataset | None = None) -> Source:
    """Find and check the files of a version.

    Args:
        version: the version.
        objects: the folder of the copies.
        dataset: what is read of it; null: all of it.

    Raises:
        JobError: with every problem found; also when files of a version that is no copy are not those it was made of.
    """
    asked = dataset or Dataset(path=version.path)
    chosen = _read_like(version, asked)
    if version.is_copy:
        files = [
            DataFile(path=object_of(objects, file), relative=file.relative, size_bytes=file.size_bytes) for file in version.content.files
        ]
        gone = [file.relative for file in files if not Path(str(file.path)).is_file()]
        if gone:
            raise _changed(version, [f"{name} is gone from {objects}" for name in gone])
        return open_source(chosen, Path(), (version.content.format, tuple(files)))
    try:
        source = open_source(chosen, Path())
    except JobError as error:
        gone = [] if "://" in version.path or Path(version.path).exists() else [f"{version.path} is gone"]
        raise _changed(version, gone) if gone else error from error
    _refuse_differences(version, source, {})
    return source


def refuse_changes(version: DatasetVersion, source: Source) -> None:
    """Read the files of a version and compare them with what it was made of.

    Raises:
        JobError: they are not the same; naming the files.
    """
    _refuse_differences(version, source, {file.relative: digest for file, digest in zip(source.data_files, source.digests, strict=True)})


def _refuse_differences(version: DatasetVersion, source: Source, digests: dict[str, str]) -> None:
    differences = list(_differences(version, source, digests))
    if differences:
        raise _changed(version, differences)


def _differences(version: DatasetVersion, source: Source, digests: dict[str, str]) -> Iterator[str]:
    was = {file.relative: file for file in version.content.files}
    there = {file.relative: file for file in source.data_files}
    for name in sorted({*was, *there}):
        if name not in there:
            yield f"{name} is gone"
        elif name not in was:
            yield f"{name} is new"
        elif there[name].size_bytes != was[name].size_bytes:
            yield f"{name} has {there[name].size_bytes:,} bytes instead of {was[name].size_bytes:,}"
        elif digests.get(name, was[name].digest) != was[name].digest:
            yield f"{name} has other content"


def file_changes(was: Mapping[str, str], source: Source) -> list[str]:
    """What became of the files of a dataset whose digests were written down."""
    now = {file.relative: digest for file, digest in zip(source.data_files, source.digests, strict=True)}
    return [
        f"{name} {'is gone' if name not in now else 'is new' if name not in was else 'has other content'}"
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]


def _changed(version: DatasetVersion, differences: list[str]) -> JobError:
    shown = "; ".join(differences[:_SHOWN]) + (f"; and {len(differences) - _SHOWN:,} more" if len(differences) > _SHOWN else "")
    advice = (
        "put its files back, or make a new version with `batchrun dataset add`"
        if version.is_copy
        else f"put the files back, or make a new version: batchrun dataset add {version.name} {version.path} (with --copy it is kept)"
    )
    return JobError([Problem(("dataset", "name"), f"dataset version changed on disk: {version.label}: {shown}; {advice}")])


def _read_like(version: DatasetVersion, asked: Dataset) -> Dataset:
    """The dataset at the path of a version, read as when it was added, where `asked` does not say otherwise."""
    options = version.options
    csv = asked.csv
    if csv == CsvFormat() and "csv" in options:
        csv = CsvFormat(**{**options["csv"], "null_values": tuple(options["csv"]["null_values"])})
    chosen = replace(
        asked, path=version.path, name=None, version=options.get("version"), format=asked.format or options.get("format"), csv=csv
    )
    if asked.files == FilesFormat() and "files" in options:
        chosen = replace(chosen, files=FilesFormat(**{**options["files"], "include": tuple(options["files"]["include"])}))
    bad_rows = options.get("on_bad_rows", asked.on_bad_rows)
    schema_mode = options.get("schema_mode", asked.schema_mode)
    return replace(chosen, schema={**options.get("schema", {}), **asked.schema}, schema_mode=schema_mode, on_bad_rows=bad_rows)
