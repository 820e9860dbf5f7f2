"""Versions of named datasets: what is known of their content, and where their files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NamedTuple


class VersionFile(NamedTuple):
    """One file of a version.

    Attributes:
        relative: its path inside the dataset, with forward slashes.
        size_bytes: its size.
        digest: of its bytes.
    """

    relative: str
    size_bytes: int
    digest: str


class Column(NamedTuple):
    """One column of a version, as far as it can be told without its rows.

    Attributes:
        name: its name.
        type: its type, in the words of `dataset.schema` where there is one.
        null_count: how many of its values are null.
        min: its smallest value, null where its values have no order; times and decimals are text, long texts are cut off.
        max: its largest value; as above.
    """

    name: str
    type: str
    null_count: int
    min: Any
    max: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a dataset holds.

    Attributes:
        fingerprint: identifies its files: their paths inside the dataset, sizes and bytes.
        format: parquet, csv, ndjson or arrow.
        row_count: how many rows it has.
        columns: its columns.
        files: its files, sorted by their path.
    """

    fingerprint: str
    format: str
    row_count: int
    columns: tuple[Column, ...]
    files: tuple[VersionFile, ...]

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One version of a named dataset. Its content never changes.

    Attributes:
        name: the name of the dataset.
        version: its number, from 1; a number is never given again.
        created_at: when it was added.
        path: what it was added from: a file, a folder or a glob. When it is not a copy, its rows are read there.
        is_copy: whether its files are kept in managed storage.
        options: how its files are read: `format`, `csv`, `schema`, `schema_mode` and `on_bad_rows` of the job file, as far as
            they were given.
        content: its files, rows and columns.
        tags: what it is called, besides its number.

    Example:
        >>> client.datasets.get("tickets@latest").label  # doctest: +SKIP
        'tickets@3'
    """

    name: str
    version: int
    created_at: datetime
    path: str
    is_copy: bool
    content: Content
    options: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def fingerprint(self) -> str:
        """Identifies its content."""
        return self.content.fingerprint

    def plain(self) -> dict[str, Any]:
        """All of it as values for JSON."""
        content = self.content
        columns, files = [column._asdict() for column in content.columns], [file._asdict() for file in content.files]
        inside = asdict(content) | {"columns": columns, "files": files, "size_bytes": content.size_bytes}
        about = {"name": self.name, "version": self.version, "created_at": self.created_at.isoformat(), "tags": list(self.tags)}
        return {**about, "path": self.path, "is_copy": self.is_copy, "options": dict(self.options), **inside}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> DatasetVersion:
        """The version that `plain` made these values of.

        Raises:
            KeyError: a value is missing.
            TypeError: a value is not what it should be.
            ValueError: as above.
        """
        content = Content(
            fingerprint=plain["fingerprint"],
            format=plain["format"],
            row_count=plain["row_count"],
            columns=tuple(Column(**column) for column in plain["columns"]),
            files=tuple(VersionFile(**file) for file in plain["files"]),
        )
        return cls(
            name=plain["name"],
            version=plain["version"],
            created_at=datetime.fromisoformat(plain["created_at"]),
            path=plain["path"],
            is_copy=plain["is_copy"],
            content=content,
            options=plain["options"],
            tags=tuple(plain.get("tags", ())),
        )


class Added(NamedTuple):
    """What became of a dataset that was added.

    Attributes:
        version: the version with this content.
        is_new: whether it was made now; false: the latest version had this content already.
        note: what changed about the version that was there; empty: nothing did.
    """

    version: DatasetVersion
    is_new: bool
    note: str = ""


class Removed(NamedTuple):
    """What became of versions that were to be removed.

    Attributes:
        versions: the versions that are gone.
        kept: versions that stay, each with the reason.
        freed_bytes: the size of the files that were deleted from managed storage.
        are_files_left: files that nothing refers to stay for now, because something is being added at this moment.
    """

    versions: tuple[DatasetVersion, ...]
    kept: tuple[tuple[DatasetVersion, str], ...]
    freed_bytes: int
    are_files_left: bool
