"""Reading one file, wherever it is: within what the job allows, with a bound on its size, and never on the event loop."""

from __future__ import annotations

import binascii
import errno
import mimetypes
import os
import re
import stat
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import anyio.to_thread

from batchrun.core.errors import AddressRefused, FileMissing, FileTooLarge, FileUnreadable, InvalidValue
from batchrun.core.files import File
from batchrun.net.download import Downloads
from batchrun.net.hosts import AllowedHosts
from batchrun.net.parts import text_of

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_MISSING = (errno.ENOENT, errno.ENOTDIR)
_FOR_GOOD = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV)
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_PIECE_BYTES = 2**20
_UNKNOWN_TYPE = "application/octet-stream"
# Not those of the machine: the same file has the same type everywhere.
_TYPES = mimetypes.MimeTypes(filenames=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a source may lead to.

    Attributes:
        any_path: the source is the job's own word, and so is its path.
        folders: where paths may lead otherwise, as real paths.
        trusted_host: host and port of an address that is the job's own word.
        hosts: the other hosts addresses may have.
        max_bytes: the largest file.
    """

    any_path: bool
    folders: tuple[Path, ...]
    trusted_host: bytes | None
    hosts: AllowedHosts
    max_bytes: int


class FileReader:
    """Reads files for one node, or for one input.

    Args:
        folder: what relative paths start from.
        allowance: what is allowed.
    """

    def __init__(self, folder: Path, allowance: Allowance) -> None:
        self._folder = folder
        self._allowance = allowance
        self._downloads: Downloads

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold connections open."""
        allowed = self._allowance
        opened = Downloads.opened(trusted_host=allowed.trusted_host, allowed=allowed.hosts, max_bytes=allowed.max_bytes)
        async with opened as self._downloads:
            yield

    async def read(self, source: Any) -> File | None:
        """Read a file; null where there is no source.

        Raises:
            AddressRefused: the job does not allow it.
            FileMissing, FileUnreadable, FileTooLarge: what the names say.
            NodeError: as `Downloads.get`, and for a source that is none.
        """
        if source is None:
            return None
        text = text_of(source, "the source").strip()
        scheme = _SCHEME.match(text)
        match scheme[1].lower() if scheme else "":
            case "http" | "https":
                return await self._downloads.get(text)
            case "data":
                return from_data_uri(text, self._allowance.max_bytes)
            case "file":
                path = _path_of(text)
            case _ if "://" in text:
                raise InvalidValue(f"the source must be a path, an http or https address or a data: URI, got {_shown(text)!r}")
            case _:
                path = text
        read = partial(read_path, self._folder / path, self._allowance)
        return await anyio.to_thread.run_sync(read, abandon_on_cancel=True)


def read_path(path: Path, allowance: Allowance) -> File:
    """Read a file of this machine. Blocks.

    Raises:
        AddressRefused: it is not in one of the folders.
        FileMissing, FileUnreadable, FileTooLarge: what the names say.
    """
    found = find_path(path, None if allowance.any_path else allowance.folders)
    try:
        content = _content(found, allowance.max_bytes)
    except OSError as error:
        raise unreadable(found, error) from error
    return File(name=found.name, media_type=media_type_of(found), content=content)


def find_path(path: Path, allowed: tuple[Path, ...] | None) -> Path:
    """The real path of a file within the folders that are allowed, which are real paths; null: all are. Blocks.

    Raises:
        AddressRefused: it is not in one of the folders.
        FileUnreadable: it is no path.
    """
    try:
        found = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a zero byte
        raise FileUnreadable(f"{_shown(str(path))} is not a path: {error}") from None
    if allowed is not None and not any(found.is_relative_to(folder) for folder in allowed):
        folders = ", ".join(map(str, allowed)) or "none"
        raise AddressRefused(f"item data leads to {_shown(str(found))}, which is in none of the folders of allow_paths: {folders}")
    return found


def unreadable(path: Path, error: OSError) -> FileMissing | FileUnreadable:
    """What is said of a file that cannot be read."""
    shown = _shown(str(path))
    if error.errno in _MISSING:
        return FileMissing(f"there is no file {shown}")
    return FileUnreadable(f"{shown} cannot be read: {error.strerror}", retryable=error.errno not in _FOR_GOOD)


def media_type_of(path: Path) -> str:
    """The type that the name of a file stands for."""
    return _TYPES.guess_type(path.name)[0] or _UNKNOWN_TYPE


def _content(path: Path, max_bytes: int) -> bytes:
    # Not blocking, or opening a pipe nobody writes to would take for ever.
    descriptor = os.open(path, _OPEN_FLAGS)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, a pipe or a socket"
            raise FileUnreadable(f"{_shown(str(path))} is {what}, not a file")
        if found.st_size > max_bytes:
            raise _too_large(_shown(str(path)), f"{found.st_size:,}", max_bytes)
        content = bytearray()
        # It may grow, and some files have no size at all.
        while piece := os.read(descriptor, min(_PIECE_BYTES, max_bytes + 1 - len(content))):
            content += piece
            if len(content) > max_bytes:
                raise _too_large(_shown(str(path)), f"more than {max_bytes:,}", max_bytes)
        return bytes(content)
    finally:
        os.close(descriptor)


def from_data_uri(text: str, max_bytes: int) -> File:
    """The file that a `data:` URI is.

    Raises:
        InvalidValue: it is not one.
        FileTooLarge: it has more than `max_bytes`.

    Example:
        >>> from_data_uri("data:text/plain;base64,SGVsbG8=", 5).content
        b'Hello'
    """
    head, comma, data = text[len("data:") :].partition(",")
    if not comma:
        raise InvalidValue("a data: URI has a comma before its data")
    media_type, _, last = head.rpartition(";")
    is_base64 = last.strip().lower() == "base64"
    if not is_base64:
        media_type = head
    # Percent-encoding and base64 only make it longer: four characters of base64 are at least one byte.
    if len(data) > 4 * (max_bytes + 3):
        raise _too_large("the data: URI", f"more than {max_bytes:,}", max_bytes)
    content = unquote_to_bytes(data)
    if is_base64:
        plain = b"".join(content.split())
        try:
            content = b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        except binascii.Error as error:
            raise InvalidValue(f"the data: URI is not valid base64: {error}") from None
    if len(content) > max_bytes:
        raise _too_large("the data: URI", f"{len(content):,}", max_bytes)
    is_typed = bool(media_type) and not media_type.startswith(";")
    return File(media_type=media_type if is_typed else f"text/plain{media_type or ';charset=US-ASCII'}", content=content)


def _path_of(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise InvalidValue(f"a file: URI names a file of this machine, got one of {parts.netloc!r}")
    return unquote(parts.path)


def _too_large(what: str, size: str, max_bytes: int) -> FileTooLarge:
    return FileTooLarge(f"{what} has {size} bytes, max_bytes is {max_bytes:,}; raise it to take the file")


def _shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:199]}…"
