"""Named datasets: their versions, tags, and which executions refer to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import orjson

from batchrun.core.dataset_names import LATEST, check_name, check_tag, no_dataset
from batchrun.core.dataset_versions import DatasetVersion
from batchrun.store.choosing import choose, no_version
from batchrun.store.database import Database, StoreError, store_home
from batchrun.store.manifests import Manifests, storing
from batchrun.store.records import storable

_PUT = "INSERT OR REPLACE INTO dataset_versions VALUES (?, ?, ?)"
_VERSIONS = "SELECT manifest FROM dataset_versions WHERE name = ? ORDER BY version DESC"
_LATEST = """
    SELECT manifest FROM dataset_versions AS each
    WHERE version = (SELECT max(version) FROM dataset_versions WHERE name = each.name) ORDER BY name
"""
_USED = """
    SELECT json_extract(record, '$.dataset_version'), execution_id, folder FROM executions
    WHERE json_extract(record, '$.dataset_name') = ? AND json_extract(record, '$.dataset_version') IS NOT NULL
"""


class DatasetStore:
    """The named datasets, in the store that lists the executions.

    The file is an index here as well: it follows the manifests in the folder `datasets/` beside it whenever it is opened, so it may
    be deleted at any time. Only which executions refer to a version is lost with it, until these are listed again. For one
    thread at a time; any number of processes.

    Args:
        home: the folder of the store.

    Attributes:
        files: the manifests and copies.

    Example:
        >>> with DatasetStore.open() as datasets:
        ...     datasets.find("tickets", "latest").content.row_count
    """

    def __init__(self, home: Path) -> None:
        self._database = Database(home)
        self.files = Manifests(self._database.path.parent / "datasets")

    @classmethod
    def open(cls, home: Path | None = None) -> Self:
        """Open the store and bring its index up to date.

        Args:
            home: the folder of the store; see `store_home`.

        Raises:
            StoreError: the file or a manifest cannot be read or written.
        """
        store = cls(home or store_home())
        store._follow()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def latest(self) -> list[DatasetVersion]:
        """The latest version of each dataset, sorted by name.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._stored(_LATEST)

    def versions(self, name: str) -> list[DatasetVersion]:
        """The versions of a dataset, newest first.

        Raises:
            NoSuchDataset: there are none.
            StoreError: the file cannot be read.
        """
        found = self._stored(_VERSIONS, storable(name))
        if not found:
            raise no_dataset(name, [version.name for version in self.latest()], self.files.folder)
        return found

    def find(self, name: str, version: int | str = LATEST) -> DatasetVersion:
        """The version of a dataset that is meant.

        Args:
            name: the dataset.
            version: `latest`, a number, a tag, or a time such as `2026-11-01` or `7d`: the newest version of then.

        Raises:
            NoSuchDataset: there is none; the message names those there are.
            StoreError: the file cannot be read.
        """
        return choose(name, self.versions(name), str(version))

    def add(self, name: str, make: Callable[[DatasetVersion | None, int], DatasetVersion]) -> DatasetVersion:
        """Write down a version, alone among all processes.

        Args:
            name: the dataset.
            make: is given the latest version, if there is one, and the number of the next; makes the version to be written,
                which may also be the latest one, changed in what is not its content.

        Raises:
            BadName: no dataset may be called so.
            StoreError: it cannot be written.
        """
        check_name(name)
        with self._changing():
            tags, last_version = self.files.names(name)
            number = max(last_version, *self.files.listed().get(name, ()), 0) + 1
            latest = next(iter(self._stored(_VERSIONS, name)), None)
            made = make(latest, number)
            if made != latest:
                self.files.write(name, made.version, _manifest(made))
                self._database.write(_PUT, (name, made.version, _text(made)))
            if made.version == number:
                self.files.write_names(name, tags, number)
        return made

    def tag(self, name: str, version: int | None, tag: str) -> int | None:
        """Give a tag to a version, or take it away. Returns the version that had it.

        Args:
            name: the dataset.
            version: its version; null: none shall have the tag.
            tag: the tag.

        Raises:
            BadName: no version may be called so.
            NoSuchDataset: there is no such dataset, or no such version any more.
            StoreError: it cannot be written.
        """
        check_tag(tag)
        with self._changing():
            numbers = [each.version for each in self.versions(name)]
            if version is not None and version not in numbers:
                raise no_version(name, str(version), self.versions(name))
            tags, last_version = self.files.names(name)
            before = tags.pop(tag, None)
            if version is not None:
                tags[tag] = version
            self.files.write_names(name, tags, max(last_version, *numbers))
            self._put_tags(name, tags)
        return before

    def remove(self, versions: Sequence[DatasetVersion], are_kept: Callable[[DatasetVersion, Path], Iterator[Path]]) -> int | None:
        """Forget versions, and delete the copies that no version refers to any more. Numbers are not given again.

        Args:
            versions: what is to be removed.
            are_kept: the copies that a version needs, given the folder of all copies.

        Returns:
            How many bytes were deleted; null when copies stay because something is being added at this moment.

        Raises:
            StoreError: they cannot be removed.
        """
        with self._changing():
            for name in {version.name for version in versions}:
                numbers = {version.version for version in versions if version.name == name}
                tags, last_version = self.files.names(name)
                tags = {tag: number for tag, number in tags.items() if number not in numbers}
                self.files.write_names(name, tags, max(last_version, *numbers))
                for number in numbers:
                    self.files.remove(name, number)
                    self._database.write("DELETE FROM dataset_versions WHERE name = ? AND version = ?", (name, number))
                self._put_tags(name, tags)
            if self.files.is_something_added():
                return None
            left = self._stored("SELECT manifest FROM dataset_versions")
            needed = {path for version in left if version.is_copy for path in are_kept(version, self.files.objects)}
            return sum(map(_deleted, [path for path in self.files.copies() if path not in needed]))

    def used_by(self, name: str) -> dict[int, list[str]]:
        """The listed executions whose folders are there, by the version of a dataset that they were run on.

        Raises:
            StoreError: the file cannot be read.
        """
        found: dict[int, list[str]] = {}
        for version, execution_id, folder in self._database.read(_USED, (storable(name),)):
            if Path(folder).is_dir():
                found.setdefault(version, []).append(execution_id)
        return found

    def _follow(self) -> None:
        """Make the index say what the manifests say."""
        with storing(self.files.folder):
            if self._listed() == self._there():
                return
            with self._changing():
                listed, there = self._listed(), self._there()
                for name in listed.keys() - there.keys():
                    self._database.write("DELETE FROM dataset_versions WHERE name = ?", (name,))
                    self._put_tags(name, {})
                for name in there:
                    self._list(name, listed.get(name, ((), {}))[0], *there[name])

    def _list(self, name: str, listed: tuple[int, ...], there: tuple[int, ...], tags: dict[str, int]) -> None:
        for number in set(listed) - set(there):
            self._database.write("DELETE FROM dataset_versions WHERE name = ? AND version = ?", (name, number))
        for number in set(there) - set(listed):
            self._database.write(_PUT, (name, number, _text(self._read(name, number))))
        self._put_tags(name, tags)

    def _listed(self) -> dict[str, tuple[tuple[int, ...], dict[str, int]]]:
        versions: dict[str, list[int]] = {}
        for name, version in self._database.read("SELECT name, version FROM dataset_versions ORDER BY name, version"):
            versions.setdefault(name, []).append(version)
        return {name: (tuple(numbers), self._tags(name)) for name, numbers in versions.items()}

    def _there(self) -> dict[str, tuple[tuple[int, ...], dict[str, int]]]:
        return {name: (numbers, self.files.names(name)[0]) for name, numbers in self.files.listed().items() if numbers}

    def _read(self, name: str, number: int) -> DatasetVersion:
        path = self.files.folder / name / f"{number}.json"
        try:
            return DatasetVersion.from_plain(self.files.read(name, number))
        except (KeyError, TypeError, ValueError) as error:
            what = "put back a copy of it, or delete it: the version is lost then"
            raise StoreError(f"the manifest {path} is damaged ({error}); {what}") from error

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with storing(self.files.folder), self.files.locked(), self._database.transaction():
            yield

    def _put_tags(self, name: str, tags: dict[str, int]) -> None:
        self._database.write("DELETE FROM dataset_tags WHERE name = ?", (name,))
        for tag, version in tags.items():
            self._database.write("INSERT INTO dataset_tags VALUES (?, ?, ?)", (name, tag, version))

    def _tags(self, name: str) -> dict[str, int]:
        return dict(self._database.read("SELECT tag, version FROM dataset_tags WHERE name = ?", (name,)))

    def _stored(self, sql: str, *values: object) -> list[DatasetVersion]:
        found = [DatasetVersion.from_plain(orjson.loads(manifest)) for (manifest,) in self._database.read(sql, values)]
        tags = {name: self._tags(name) for name in {version.name for version in found}}
        return [
            replace(each, tags=tuple(sorted(tag for tag, number in tags[each.name].items() if number == each.version))) for each in found
        ]


def _manifest(version: DatasetVersion) -> dict[str, object]:
    return {"format_version": 1, **{name: value for name, value in version.plain().items() if name != "tags"}}


def _text(version: DatasetVersion) -> str:
    return orjson.dumps(_manifest(version)).decode()


def _deleted(path: Path) -> int:
    """Delete a file that may be gone already. Returns its size."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size
