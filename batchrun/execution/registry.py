"""The registry of named datasets: versions made, shown, compared, tagged and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polars import LazyFrame

from batchrun.core.dataset_names import DatasetError, NoSuchDataset, check_name, split_reference
from batchrun.core.dataset_versions import Added, Content, DatasetVersion, Removed
from batchrun.core.errors import JobError, Problem
from batchrun.core.job import Dataset
from batchrun.datasets import DatasetDiff, Source, describe, diff_frames, frame_of, head, object_of, open_source, snapshot, spool_frame
from batchrun.execution.naming import open_version, pinned_table, refuse_changes
from batchrun.store import DatasetStore, store_home
from batchrun.store.manifests import storing

_READING = ("format", "csv", "schema", "schema_mode", "on_bad_rows", "files", "version")
_OF_JOBS = (
    "belongs to the job that reads the dataset; "
    "a dataset has format, csv, schema, schema_mode, on_bad_rows, files and, of a Delta table, version"
)
_FRAME = "data.parquet"


class Registry:
    """The named datasets of one store. Each call opens and closes the store, so many threads may use it.

    Args:
        home: the folder of the store; null: see `store_home`.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._home = (home or store_home()).absolute()

    def add(self, name: str, source: Any, *, copy: bool = False) -> Added:
        """Make a version of a dataset, unless its latest one has the same content and is read in the same way.

        Args:
            name: the dataset; the first version makes it.
            source: a path, a `Dataset` with `path` and perhaps `format`, `csv`, `schema`, or a data frame, which is always copied.
            copy: keep the files in managed storage. Otherwise they are read where they are, and must stay as they are.

        Raises:
            BadName: no dataset may be called so.
            JobError: the files cannot be read as a dataset.
            StoreError: it cannot be written down, or there is no room for a copy.
        """
        check_name(name)
        with DatasetStore.open(self._home) as store, storing(store.files.folder), store.files.workspace() as workspace:
            dataset = _dataset(source, workspace)
            is_copy = copy or Path(dataset.path or "").is_relative_to(workspace)
            options, path = _options(dataset), "" if Path(dataset.path or "").is_relative_to(workspace) else dataset.path or ""
            found = open_source(dataset, Path())
            latest = _latest(store, name)
            if is_copy:
                _refuse_copy(found)
                copies = snapshot(found.data_files, store.files.objects, workspace)
                found = open_source(dataset, Path(), (found.format, copies))
            content = latest.content if latest is not None and _is_same(latest, found.fingerprint, options) else None
            content = content or describe(found, workspace / "spool")

            seen: list[DatasetVersion | None] = []  # the latest version when this one was to be written down

            def made(latest: DatasetVersion | None, number: int) -> DatasetVersion:
                seen.append(latest)
                if latest is None or not _is_same(latest, content.fingerprint, options):
                    return _version(name, number, content, path=path, is_copy=is_copy, options=options)
                if latest.is_copy:
                    return latest
                return replace(latest, is_copy=is_copy, path=path or latest.path)

            version, before = store.add(name, made), seen[0]
        is_new = before is None or version.version > before.version
        return Added(version, is_new, "" if is_new or before is None else _note(before, version))

    def latest(self) -> list[DatasetVersion]:
        """The latest version of each dataset, sorted by name."""
        with DatasetStore.open(self._home) as store:
            return store.latest()

    def versions(self, name: str) -> list[DatasetVersion]:
        """The versions of a dataset, newest first.

        Raises:
            NoSuchDataset: there are none.
        """
        with DatasetStore.open(self._home) as store:
            return store.versions(name)

    def get(self, reference: str) -> DatasetVersion:
        """The version that is meant by `name`, `name@3`, `name@tag`, `name@latest` or `name@2026-11-01`.

        Raises:
            NoSuchDataset: there is none.
        """
        with DatasetStore.open(self._home) as store:
            return store.find(*split_reference(reference))

    def used_by(self, name: str) -> dict[int, list[str]]:
        """The listed executions of each version of a dataset."""
        with DatasetStore.open(self._home) as store:
            return store.used_by(name)

    def head(self, reference: str, rows: int = 5) -> list[Mapping[str, Any]]:
        """The first rows of a version.

        Raises:
            NoSuchDataset: there is none.
            JobError: its files are not what they were, as far as their names and sizes tell.
        """
        with self._workspace() as (store, workspace):
            version = store.find(*split_reference(reference))
            return head(open_version(version, store.files.objects, Dataset(path=version.path, limit=rows)), rows, workspace)

    def diff(self, name: str, before: int | str, after: int | str, key: str, examples: int = 5) -> DatasetDiff:
        """What changed from one version of a dataset to another, row by row.

        Args:
            name: the dataset.
            before: its earlier version: a number, a tag, a time or `latest`.
            after: its later version.
            key: the column that names each row; unique and never null in both.
            examples: how many rows of each kind are given.

        Raises:
            NoSuchDataset: there is no such version.
            JobError: files of a version are not what they were.
            DiffRefused: the versions cannot be compared by this key.
        """
        with self._workspace() as (store, workspace):

            def rows(found: DatasetVersion) -> LazyFrame:
                source = open_version(found, store.files.objects)
                refuse_changes(found, source)
                return frame_of(source, workspace / str(found.version))

            return diff_frames(rows(store.find(name, before)), rows(store.find(name, after)), key, examples)

    def tag(self, reference: str, tag: str) -> int | None:
        """Call a version by a tag, which another one may have had. Returns the number of that one.

        Raises:
            BadName: no version may be called so.
            NoSuchDataset: there is no such version.
        """
        with DatasetStore.open(self._home) as store:
            version = store.find(*split_reference(reference))
            return store.tag(version.name, version.version, tag)

    def untag(self, name: str, tag: str) -> int | None:
        """Take a tag away. Returns the version that had it; null: none had it."""
        with DatasetStore.open(self._home) as store:
            return store.tag(name, None, tag)

    def remove(self, reference: str, *, keep: int | None = None, force: bool = False) -> Removed:
        """Remove versions, and the copies of their files that no other version needs. Files that are no copies stay as they are.

        Args:
            reference: `name@version`; or a name, with `keep`.
            keep: remove all but the newest so many versions.
            force: also remove versions that have a tag or that listed executions were run on.

        Raises:
            NoSuchDataset: there is no such version.
            DatasetError: it is not said which versions to remove, or the number is negative.
            StoreError: they cannot be removed.
        """
        name, at, version = reference.partition("@")
        if bool(at) == (keep is not None):
            raise DatasetError(f"say which versions of {name} to remove: one, as in {name}@3, or all but the newest, as in {name} --keep 3")
        if keep is not None and keep < 0:
            raise DatasetError(f"keep must be ≥ 0, got {keep}")
        with DatasetStore.open(self._home) as store:
            chosen = [store.find(name, version)] if at else store.versions(name)[keep:]
            used = store.used_by(name)
            kept = [] if force else [(each, why) for each in chosen if (why := _needed(each, used.get(each.version, ())))]
            gone = [each for each in chosen if each.version not in {version.version for version, _ in kept}]
            freed = store.remove(gone, lambda each, objects: (object_of(objects, file) for file in each.content.files))
        return Removed(tuple(gone), tuple(kept), freed or 0, freed is None)

    @contextmanager
    def _workspace(self) -> Iterator[tuple[DatasetStore, Path]]:
        with DatasetStore.open(self._home) as store, storing(store.files.folder), store.files.workspace() as workspace:
            yield store, workspace


def _dataset(source: Any, workspace: Path) -> Dataset:
    """What is added, with an absolute path."""
    if isinstance(source, str | Path):
        source = Dataset(path=str(source))
    if not isinstance(source, Dataset):
        try:
            spool_frame(source, workspace / _FRAME)
        except TypeError as error:
            raise DatasetError(str(error)) from None
        return Dataset(path=str(workspace / _FRAME))
    if source.path is None:
        raise DatasetError(f"{source.label} is a named dataset already; give the path of files")
    plain = Dataset(path=source.path)
    wrong = [name for name in asdict(plain) if name not in ("path", *_READING) and getattr(source, name) != getattr(plain, name)]
    if wrong:
        raise JobError(Problem(("dataset", name), _OF_JOBS) for name in wrong)
    found = replace(source, path=source.path if "://" in source.path else str(Path(source.path).expanduser().absolute()))
    return pinned_table(found, Path())


def _refuse_copy(found: Source) -> None:
    if found.format in ("delta", "files") or not all(isinstance(path, Path) for path in found.files):
        raise DatasetError(
            "only local Parquet, CSV, NDJSON and Arrow files are copied: a Delta table keeps its versions itself, "
            "and a folder of files or objects of a store are added without --copy"
        )


def _options(dataset: Dataset) -> dict[str, Any]:
    """How the files are read, as far as it is not the default; as JSON has it."""
    given, usual = asdict(dataset), asdict(Dataset(path=""))
    for each in (given, usual):
        each["csv"]["null_values"], each["files"]["include"] = list(each["csv"]["null_values"]), list(each["files"]["include"])
    return {name: given[name] for name in _READING if given[name] != usual[name]}


def _version(name: str, number: int, content: Content, *, path: str, is_copy: bool, options: dict[str, Any]) -> DatasetVersion:
    now = datetime.now(UTC)
    return DatasetVersion(name=name, version=number, created_at=now, path=path, is_copy=is_copy, content=content, options=options)


def _is_same(version: DatasetVersion, fingerprint: str, options: Mapping[str, Any]) -> bool:
    return version.fingerprint == fingerprint and dict(version.options) == options


def _latest(store: DatasetStore, name: str) -> DatasetVersion | None:
    try:
        return store.find(name)
    except NoSuchDataset:
        return None


def _note(before: DatasetVersion, now: DatasetVersion) -> str:
    if now.is_copy and not before.is_copy:
        return "it is kept as a copy from now on"
    return f"it is read from {now.path} from now on" if now.path != before.path else ""


def _needed(version: DatasetVersion, executions: Any) -> str:
    """Why a version is kept; empty when nothing needs it."""
    reasons = [f"tagged {', '.join(version.tags)}"] if version.tags else []
    if executions:
        reasons.append(f"used by {', '.join(executions[:3])}{', …' if len(executions) > 3 else ''}")
    return " and ".join(reasons)
