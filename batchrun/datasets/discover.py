"""Which files a dataset is made of, in which format, and in which partitions."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeAlias
from urllib.parse import unquote

from batchrun.core.errors import JobError, Problem, known_values
from batchrun.core.job import Dataset
from batchrun.datasets.objects import ObjectPath, find_objects, is_address

_SUFFIXES = {
    "parquet": (".parquet", ".pq"),
    "csv": (".csv",),
    "ndjson": (".ndjson", ".jsonl"),
    "arrow": (".arrow", ".arrows", ".ipc", ".feather"),
}
_FORMATS = {suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}
"""Suffixes of compressed text files."""

Place: TypeAlias = Path | ObjectPath
"""Where a file is: on this machine, or in an object store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file, or one object of an object store.

    Attributes:
        path: where it is.
        relative: its path from the dataset's folder, with forward slashes.
        size_bytes: its size.
        digest: identifies its content, where that is known without reading it.
    """

    path: Place
    relative: str
    size_bytes: int
    digest: str | None = None

    def open(self) -> BinaryIO:
        """Its bytes, from any position."""
        return self.path.open("rb") if isinstance(self.path, Path) else self.path.open()

    @property
    def partition(self) -> dict[str, str | None]:
        """What the `key=value` folders above the file say."""
        pairs = (part.split("=", 1) for part in self.relative.split("/")[:-1] if "=" in part)
        return {key: None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value) for key, value in pairs}


Found: TypeAlias = tuple[str, tuple[DataFile, ...]]
"""The format of a dataset and its files."""


def bad_path(message: str) -> JobError:
    """The refusal of a dataset because of a file."""
    return JobError([Problem(("dataset", "path"), message)])


def find_files(dataset: Dataset, folder: Path) -> Found:
    """The format and the files of a dataset, sorted by relative path.

    Raises:
        JobError: nothing is there, the formats are mixed or unknown, or a file is empty or cannot be read.
    """
    if dataset.path is None:
        raise bad_path(f"{dataset.label} is a name: its files are those of one of its versions")
    if is_address(dataset.path):
        return _find_objects(dataset, dataset.path)
    path = Path(dataset.path).expanduser()
    base = target = folder / path
    if target.is_file():
        base, names = target.parent, [target.name]
    elif target.is_dir():
        names = list(_walk(target, target))
    elif patterns := [at for at, part in enumerate(path.parts) if set(part) & set("*?[")]:
        base = folder.joinpath(*path.parts[: patterns[0]])
        names = list(_matches(base, str(Path(*path.parts[patterns[0] :]))))
    else:
        raise _missing(target)
    kind, chosen = _of_one_format(sorted(names), dataset.format, target, is_file=target.is_file())
    return kind, tuple(_data_file(base / name, name, kind) for name in chosen)


def _find_objects(dataset: Dataset, url: str) -> Found:
    base, found = find_objects(url)
    objects = dict(found)
    is_single = len(found) == 1 and found[0][1].url == url
    kind, chosen = _of_one_format(list(objects), dataset.format, url, is_file=is_single)
    for name in chosen:
        _refuse_empty(f"{base}/{name}", objects[name].size_bytes, kind)
    return kind, tuple(_object_file(objects[name], name) for name in chosen)


def _object_file(place: ObjectPath, relative: str) -> DataFile:
    digest = hashlib.blake2b(f"{place.size_bytes}:{place.etag}".encode(), digest_size=16).hexdigest()
    return DataFile(path=place, relative=relative, size_bytes=place.size_bytes, digest=digest)


def _data_file(path: Path, relative: str, kind: str) -> DataFile:
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise bad_path(f"{path} cannot be read: {error.strerror}") from error
    _refuse_empty(path, size_bytes, kind)
    return DataFile(path=path, relative=relative, size_bytes=size_bytes)


def _refuse_empty(place: Path | str, size_bytes: int, kind: str) -> None:
    if size_bytes == 0 and kind != "ndjson":
        raise bad_path(f"{place} is empty (0 bytes); a file without rows still has a header")


def _format_of(name: str) -> str | None:
    path = PurePosixPath(name.lower())
    if path.suffix in COMPRESSIONS:
        kind = _FORMATS.get(path.with_suffix("").suffix)
        return kind if kind in {"csv", "ndjson"} else None
    return _FORMATS.get(path.suffix)


def _walk(root: Path, top: Path) -> Iterator[str]:
    """The files below `top`, relative to `root`. Names that start with a dot or `_` are not data."""
    for folder, subfolders, names in os.walk(top, onerror=_refuse_folder, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith((".", "_"))]
        yield from (Path(folder, name).relative_to(root).as_posix() for name in names if not name.startswith((".", "_")))


def _refuse_folder(error: OSError) -> None:
    raise bad_path(f"{error.filename} cannot be read: {error.strerror}") from error


def _matches(base: Path, pattern: str) -> set[str]:
    """The files a pattern matches, and those below the folders it matches."""
    found: set[str] = set()
    for match in base.glob(pattern):
        name = match.relative_to(base)
        if not any(part.startswith((".", "_")) for part in name.parts):
            found.update(_walk(base, match) if match.is_dir() else [name.as_posix()])
    return found


def _of_one_format(names: list[str], wanted: str | None, target: object, *, is_file: bool) -> tuple[str, list[str]]:
    by_format: dict[str | None, list[str]] = {}
    for name in names:
        by_format.setdefault(_format_of(name), []).append(name)
    unknown = by_format.pop(None, [])
    if wanted is not None:
        chosen = names if is_file else by_format.get(wanted) or unknown
        by_format = {wanted: chosen} if chosen else {}
    if not by_format:
        looked_for = ", ".join(_SUFFIXES[wanted] if wanted else _FORMATS)
        found = f"; found {', '.join(names[:3])}, set dataset.format if these are the data" if names else ""
        raise bad_path(f"no {wanted or 'data'} files in {target}; looked for {looked_for}{found}")
    if len(by_format) > 1:
        found = "; ".join(f"{len(some)} {kind} ({some[0]}{', …' if len(some) > 1 else ''})" for kind, some in by_format.items())
        raise bad_path(f"{target} holds files of several formats: {found}. Set dataset.format to choose one")
    return next((kind, some) for kind, some in by_format.items() if kind is not None)


def _missing(target: Path) -> JobError:
    folder, name = target.parent, target.name
    while not folder.is_dir():
        folder, name = folder.parent, folder.name
    there = [path.name for path in folder.iterdir()] if os.access(folder, os.R_OK) else []
    return bad_path(f"{target} does not exist; in {folder}: {known_values(name, there, kind='files')}")
