"""Copies of the files of an execution in an object store, whole for whoever finds the marker beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from batchrun.core.addresses import Address
from batchrun.net.objects import explaining, library, store_of
from batchrun.results.exports import DELTA, PARTITIONS
from batchrun.results.reader import RESULT_FILE

MARKER = "_SUCCESS"
"""The object that is there while all others are, and are of one end of the execution. Written last, removed first."""

_FILES = (
    *(RESULT_FILE, "failures.parquet", "rejects.parquet", "removed.parquet"),
    *(f"results.{kind}" for kind in ("csv", "ndjson", "arrow")),
    *("report.html", "events.jsonl"),
)
_FOLDERS = (PARTITIONS, DELTA, "files")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}
_PART_BYTES = 5 * 2**20  # the least that stores take: slow lines have 30 s for each
_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000


def published_files(folder: Path) -> dict[str, Path]:
    """The files of an execution that are for others, by their relative paths; neither its journal nor what its process had to say."""
    inner = chain.from_iterable(sorted((folder / name).rglob("*")) for name in _FOLDERS)
    found = chain((folder / name for name in _FILES), (path for path in inner if not path.name.startswith(".")))
    return {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}


def publish_files(folder: Path, url: str, record: Mapping[str, bytes], go_on: Callable[[], None]) -> None:
    """Copy the files of an execution to an object store, in the place of those that are there.

    The marker is removed first and written last, so that it is never beside half of them. Files are read in parts: a few MiB of them
    are in memory at once. What fails is tried again by the library.

    Args:
        folder: the execution's folder.
        url: what they are put below; all other objects there are removed.
        record: files that are written with this content, whatever is in the folder.
        go_on: is called before each part; what it raises ends the copying.

    Raises:
        OSError: the store does not take them, or a file cannot be read; the message says why, and what to do.
    """
    go_on()
    files, root = published_files(folder), Address.of(url).key
    with explaining(url, "write to"):
        store = store_of(url)
        before = [meta["path"] for page in library().list(store, root) for meta in page]
        if f"{root}/{MARKER}" in before:
            library().delete(store, f"{root}/{MARKER}")
    sizes = {}
    for name, path in files.items():
        go_on()
        sizes[name] = _put_file(store, url, f"{root}/{name}", path, go_on)
    for name, content in record.items():
        sizes[name] = _put(store, url, f"{root}/{name}", content)
    kept = {f"{root}/{name}" for name in (*sizes, MARKER)}
    with explaining(url, "write to"):
        if gone := [path for path in before if path not in kept]:
            library().delete(store, gone)
    go_on()
    _put(store, url, f"{root}/{MARKER}", orjson.dumps({"files": sizes}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _put_file(store: Any, url: str, key: str, path: Path, go_on: Callable[[], None]) -> int:
    """Copy a file; returns its size."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _PART_BYTES:
            return _put(store, url, key, file.read())
        part_bytes = max(_PART_BYTES, -(-size // _MOST_PARTS))

        def parts() -> Iterator[bytes]:
            while part := file.read(part_bytes):
                go_on()
                yield part

        options = {"chunk_size": part_bytes, "max_concurrency": _PARTS_AT_ONCE, "attributes": _attributes(key)}
        with explaining(url, "write to"):
            library().put(store, key, parts(), use_multipart=True, **options)
        return size


def _put(store: Any, url: str, key: str, content: bytes) -> int:
    with explaining(url, "write to"):
        library().put(store, key, content, use_multipart=False, attributes=_attributes(key))
    return len(content)


def _attributes(key: str) -> dict[str, str]:
    kind = _TYPES.get(os.path.splitext(key)[1])  # noqa: PTH122 - the key of an object is no path of this machine
    return {} if kind is None else {"Content-Type": kind}
