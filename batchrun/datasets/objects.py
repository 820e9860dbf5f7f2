"""Objects of object stores in the place of files: found, read in parts, and noticed when they change.

Who may read them is said by the environment, in the variables that the tools of the stores use; a job has addresses only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any, BinaryIO, cast

from batchrun.core.addresses import Address, address_problem
from batchrun.core.errors import JobError, Problem
from batchrun.datasets.globs import is_pattern, path_pattern
from batchrun.net.objects import CHANGED, ObjectProblem, explaining, library, store_of

_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """An object as it was found.

    Attributes:
        url: its address.
        etag: identifies its content; empty: it never changes, as is so of the files of tables.
        size_bytes: its size.
    """

    url: str
    etag: str
    size_bytes: int

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of its address."""
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of its name, with the dot."""
        dot = self.name.rfind(".")
        return self.name[dot:] if dot > 0 else ""

    def open(self) -> BinaryIO:
        """A file object that reads it in parts, and fails when it is not the object that was found."""
        return cast("BinaryIO", io.BufferedReader(_Parts(self), _READ_BYTES))

    def refuse_changes(self) -> None:
        """Look whether it is still the object that was found.

        Raises:
            ObjectProblem: it is not.
        """
        if not self.etag:
            return
        key = Address.of(self.url).key
        with explaining(self.url):
            found = library().head(store_of(self.url), key)
        if _etag(found) != self.etag:
            raise ObjectProblem(CHANGED)


class _Parts(io.RawIOBase):
    """The bytes of an object, asked for range by range, each on condition that the object is still the same."""

    def __init__(self, path: ObjectPath) -> None:
        super().__init__()
        self._path, self._at = path, 0
        self._store, self._key = store_of(path.url), Address.of(path.url).key

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._path.size_bytes}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._path.size_bytes - self._at)
        if count <= 0:
            return 0
        options: dict[str, Any] = {"range": (self._at, self._at + count)}
        if self._path.etag.startswith('"'):  # a weak one, or a time, is compared below
            options["if_match"] = self._path.etag
        with explaining(self._path.url):
            got = library().get(self._store, self._key, options=options)
            if self._path.etag and _etag(got.meta) != self._path.etag:
                raise ObjectProblem(CHANGED)
            content = bytes(got.bytes())
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def is_address(path: str) -> bool:
    """Whether a path of the job is an address."""
    return "://" in path


def check_address(url: str) -> None:
    """Refuse addresses of other places than object stores, and such with credentials in them, which would be stored.

    Raises:
        JobError: the address is one of these.
    """
    if (wrong := address_problem(url, "folder/file.parquet", " and paths of local files")) is not None:
        raise _refusal(wrong)


def require(package: str, extra: str, what: str) -> Any:
    """A library that only some datasets need.

    Raises:
        JobError: it is not installed; naming the extra.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise _refusal(f"{what} needs the package {package}: pip install 'batchrun[{extra}]'") from error


def find_objects(url: str) -> tuple[str, list[tuple[str, ObjectPath]]]:
    """The objects at an address: one object, those of a folder, or those a pattern matches; sorted.

    Returns:
        The address that their names start from, and the names with the objects. Those that start with a dot or `_` are left out.

    Raises:
        JobError: nothing is there, or the store cannot be asked.
    """
    check_address(url)
    require("obstore", "cloud", f"reading {url}")
    scheme, bucket, key = Address.of(url)
    steps = key.split("/") if key else []
    fixed = next((at for at, step in enumerate(steps) if is_pattern(step)), len(steps))
    root, pattern = "/".join(steps[:fixed]), "/".join(steps[fixed:])
    base = f"{scheme}://{bucket}" + (f"/{root}" if root else "")
    try:
        if root and not pattern and (single := _single(url, root)) is not None:
            return base.rpartition("/")[0], [(single.name, single)]
        found = [(name, path) for name, path in _listed(base, root) if not _is_hidden(name)]
    except ObjectProblem as error:
        raise _refusal(f"{url} cannot be read: {error}") from error
    if pattern:
        matches = path_pattern(pattern)
        found = [(name, path) for name, path in found if any(map(matches.fullmatch, _with_folders(name)))]
    if not found:
        raise _refusal(f'{url} does not exist: nothing in the bucket "{bucket}" has such a name')
    return base, sorted(found, key=lambda each: each[0])


def has_folder(url: str, folder: str) -> bool:
    """Whether there is anything in a folder below an address.

    Raises:
        JobError: the store cannot be asked.
    """
    check_address(url)
    require("obstore", "cloud", f"reading {url}")
    root = Address.of(url).key
    try:
        return next(_listed(url, f"{root}/{folder}" if root else folder, chunk=1), None) is not None
    except ObjectProblem as error:
        raise _refusal(f"{url} cannot be read: {error}") from error


def _listed(base: str, root: str, chunk: int = 1_000) -> Iterator[tuple[str, ObjectPath]]:
    scheme, bucket, _ = Address.of(base)
    with explaining(base):
        for page in library().list(store_of(base), root or None, chunk_size=chunk):
            for meta in page:
                relative = meta["path"].removeprefix(f"{root}/") if root else meta["path"]
                yield relative, ObjectPath(f"{scheme}://{bucket}/{meta['path']}", _etag(meta), meta["size"])


def _single(url: str, key: str) -> ObjectPath | None:
    try:
        with explaining(url):
            meta = library().head(store_of(url), key)
    except ObjectProblem as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    return ObjectPath(url, _etag(meta), meta["size"])


def _etag(meta: Any) -> str:
    """What identifies the content, as headers have it: lists of Azure leave the quotes out. The time where a store has no etags."""
    etag = meta["e_tag"]
    if etag is None:
        return str(meta["last_modified"].isoformat())
    return str(etag if etag.startswith(('"', "W/")) else f'"{etag}"')


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _with_folders(name: str) -> Iterator[str]:
    """A name, and those of the folders it is in."""
    steps = name.split("/")
    return ("/".join(steps[:end]) for end in range(1, len(steps) + 1))


def _refusal(message: str) -> JobError:
    return JobError([Problem(("dataset", "path"), message)])
