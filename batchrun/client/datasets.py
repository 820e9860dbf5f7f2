"""Named datasets, from a program: the same for `Client`, which blocks, and `AsyncClient`, which is awaited."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from batchrun.client.pauses import in_thread
from batchrun.core.dataset_versions import Added, DatasetVersion, Removed
from batchrun.datasets import DatasetDiff
from batchrun.execution import Registry

_Versions: TypeAlias = list[DatasetVersion]  # inside of the classes below, `list` is their method
_Rows: TypeAlias = list[Mapping[str, Any]]


class Datasets:
    """The named datasets of a client.

    Args:
        home: the folder of the store.

    Example:
        >>> client.datasets.add("tickets", "sample_data/tickets.parquet", copy=True).version.label  # doctest: +SKIP
        'tickets@1'
        >>> client.datasets.get("tickets@latest").content.row_count  # doctest: +SKIP
        1000
    """

    def __init__(self, home: Path) -> None:
        self._registry = Registry(home)

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
        return self._registry.add(name, source, copy=copy)

    def list(self, name: str | None = None) -> _Versions:
        """The latest version of each dataset, sorted by name; of one dataset all versions, newest first.

        Raises:
            NoSuchDataset: there is no dataset of this name.
            StoreError: the store cannot be read.
        """
        return self._registry.latest() if name is None else self._registry.versions(name)

    def get(self, reference: str) -> DatasetVersion:
        """The version that is meant by `name`, `name@3`, `name@tag`, `name@latest` or `name@2026-11-01`.

        Raises:
            NoSuchDataset: there is none; the message names those there are.
            StoreError: the store cannot be read.
        """
        return self._registry.get(reference)

    def head(self, reference: str, rows: int = 5) -> _Rows:
        """The first rows of a version.

        Raises:
            NoSuchDataset: there is none.
            JobError: its files are not what they were.
        """
        return self._registry.head(reference, rows)

    def diff(self, name: str, before: int | str, after: int | str, *, key: str, examples: int = 5) -> DatasetDiff:
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
        return self._registry.diff(name, before, after, key, examples)

    def tag(self, reference: str, tag: str) -> None:
        """Call a version by a tag. A tag that another version has moves.

        Raises:
            BadName: no version may be called so.
            NoSuchDataset: there is no such version.
        """
        self._registry.tag(reference, tag)

    def untag(self, name: str, tag: str) -> None:
        """Take a tag away. It does not matter whether there is one.

        Raises:
            NoSuchDataset: there is no such dataset.
        """
        self._registry.untag(name, tag)

    def remove(self, reference: str, *, keep: int | None = None, force: bool = False) -> Removed:
        """Remove versions, and the copies of their files that no other version needs. Files that are no copies stay as they are.

        Args:
            reference: `name@version`; or a name, with `keep`.
            keep: remove all but the newest so many versions.
            force: also remove versions that have a tag or that listed executions were run on.

        Raises:
            NoSuchDataset: there is no such version.
            DatasetError: it is not said which versions to remove.
            StoreError: they cannot be removed.
        """
        return self._registry.remove(reference, keep=keep, force=force)


class AsyncDatasets:
    """The named datasets of an asynchronous client; see `Datasets`.

    Example:
        >>> [version.label for version in await client.datasets.list()]  # doctest: +SKIP
        ['airports@2', 'tickets@1']
    """

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    async def add(self, name: str, source: Any, *, copy: bool = False) -> Added:
        """Make a version of a dataset; see `Datasets.add`."""
        return await in_thread(self._datasets.add, name, source, copy=copy)

    async def list(self, name: str | None = None) -> _Versions:
        """The latest version of each dataset, or all versions of one; see `Datasets.list`."""
        return await in_thread(self._datasets.list, name)

    async def get(self, reference: str) -> DatasetVersion:
        """The version that is meant; see `Datasets.get`."""
        return await in_thread(self._datasets.get, reference)

    async def head(self, reference: str, rows: int = 5) -> _Rows:
        """The first rows of a version; see `Datasets.head`."""
        return await in_thread(self._datasets.head, reference, rows)

    async def diff(self, name: str, before: int | str, after: int | str, *, key: str, examples: int = 5) -> DatasetDiff:
        """What changed from one version to another; see `Datasets.diff`."""
        return await in_thread(self._datasets.diff, name, before, after, key=key, examples=examples)

    async def tag(self, reference: str, tag: str) -> None:
        """Call a version by a tag; see `Datasets.tag`."""
        await in_thread(self._datasets.tag, reference, tag)

    async def untag(self, name: str, tag: str) -> None:
        """Take a tag away; see `Datasets.untag`."""
        await in_thread(self._datasets.untag, name, tag)

    async def remove(self, reference: str, *, keep: int | None = None, force: bool = False) -> Removed:
        """Remove versions; see `Datasets.remove`."""
        return await in_thread(self._datasets.remove, reference, keep=keep, force=force)
