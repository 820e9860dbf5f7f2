"""Folders whose files are the items: each with its path, name, size and time; what is in it is read when a node asks for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from batchrun.core.formats import FilesFormat
from batchrun.core.job import Dataset
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.globs import is_pattern, path_pattern
from batchrun.datasets.objects import is_address

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("relative_path", pa.string()),
        ("name", pa.string()),
        ("suffix", pa.string()),
        ("size_bytes", pa.int64()),
        ("modified_at", pa.timestamp("us", "UTC")),
    ]
)
"""The columns of such a dataset."""

_EXAMPLES = 3


class Listing(NamedTuple):
    """The files of a folder, sorted by their path in it.

    Attributes:
        files: the files.
        rows: what is known of each, with the columns of `SCHEMA`.
    """

    files: tuple[DataFile, ...]
    rows: pl.DataFrame


class _Entry(NamedTuple):
    relative: str
    size_bytes: int
    modified_ns: int


def list_files(dataset: Dataset, folder: Path) -> Listing:
    """The files that become items; none is opened.

    Symbolic links are followed to files inside the folder, never out of it, and never to folders. What is no file is left out.

    Raises:
        JobError: there is no such folder, it cannot be read, or the name of a file is not UTF-8.
    """
    root, pattern = _root(dataset, folder)
    options = dataset.files
    wanted = [path_pattern(each if "/" in each else f"**/{each}") for each in options.include]
    whole = path_pattern(pattern) if pattern is not None else None
    entries = [
        entry
        for entry in _walk(root, options)
        if (whole is None or whole.fullmatch(entry.relative)) and (not wanted or any(each.fullmatch(entry.relative) for each in wanted))
    ]
    entries.sort()
    _refuse_names(root, entries)
    return Listing(tuple(_file(root, entry, options) for entry in entries), _rows(root, entries))


def _root(dataset: Dataset, folder: Path) -> tuple[Path, str | None]:
    """The folder, and which paths in it are meant; null: all."""
    text = dataset.path or ""
    if is_address(text):
        raise bad_path(f"{text} is an address; the files of a local folder can be items")
    path = Path(text).expanduser()
    target = folder / path
    if target.is_dir():
        return target.absolute(), None
    if target.is_file():
        return target.parent.absolute(), "".join(f"[{char}]" if is_pattern(char) else char for char in target.name)
    patterns = [at for at, part in enumerate(path.parts) if is_pattern(part)]
    if not patterns:
        raise bad_path(f"{target} does not exist; give the path of a folder")
    base = folder.joinpath(*path.parts[: patterns[0]])
    if not base.is_dir():
        raise bad_path(f"{base} does not exist; give the path of a folder")
    return base.absolute(), "/".join(path.parts[patterns[0] :])


def _walk(root: Path, options: FilesFormat) -> Iterator[_Entry]:
    real_root = os.path.realpath(root)
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(root / prefix) as found:
                for entry in found:
                    if entry.name.startswith(".") and not options.hidden:
                        continue
                    relative = f"{prefix}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{relative}/")
                    elif (about := _about(entry, real_root)) is not None:
                        yield _Entry(relative, about.st_size, about.st_mtime_ns)
        except FileNotFoundError as error:
            if not prefix:
                raise bad_path(f"{root} is gone") from error  # a folder below it may go while others are read
        except OSError as error:
            raise bad_path(f"{error.filename or root / prefix} cannot be read: {error.strerror}") from error


def _about(entry: os.DirEntry[str], real_root: str) -> os.stat_result | None:
    """Size and times of a file of the folder, which may be a link to another one there; null: it is none, or is gone."""
    try:
        if entry.is_symlink() and not os.path.realpath(entry.path).startswith(real_root.rstrip("/") + "/"):
            return None
        return entry.stat() if entry.is_file() else None
    except FileNotFoundError:
        return None


def _refuse_names(root: Path, entries: Sequence[_Entry]) -> None:
    wrong = [entry.relative for entry in entries if not _is_text(entry.relative)]
    if wrong or not _is_text(str(root)):
        shown = ", ".join(str(os.fsencode(name))[1:] for name in (wrong or [str(root)])[:_EXAMPLES])
        count = f"the names of {len(wrong):,} files are" if len(wrong) > 1 else "a name is"
        raise bad_path(f"{count} not UTF-8 in {os.fsencode(root).decode(errors='replace')}: {shown}; rename, or leave out by files.include")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file(root: Path, entry: _Entry, options: FilesFormat) -> DataFile:
    digest = None
    if not options.digests:
        digest = hashlib.blake2b(f"{entry.size_bytes}:{entry.modified_ns}".encode(), digest_size=16).hexdigest()
    return DataFile(path=root / entry.relative, relative=entry.relative, size_bytes=entry.size_bytes, digest=digest)


def _rows(root: Path, entries: Sequence[_Entry]) -> pl.DataFrame:
    names = [PurePosixPath(entry.relative) for entry in entries]
    start = str(root).rstrip("/")
    columns = {
        "path": [f"{start}/{entry.relative}" for entry in entries],
        "relative_path": [entry.relative for entry in entries],
        "name": [name.name for name in names],
        "suffix": [name.suffix.lower() for name in names],
        "size_bytes": [entry.size_bytes for entry in entries],
        "modified_at": [entry.modified_ns // 1_000 for entry in entries],
    }
    return pl.DataFrame(columns, schema=pl.DataFrame(SCHEMA.empty_table()).schema)
