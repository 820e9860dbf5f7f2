"""Bodies of answers taken into files: in a bounded memory, whole or not at all, each content once."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from email.message import Message
from pathlib import Path, PureWindowsPath
from typing import TypedDict
from urllib.parse import unquote

import anyio.to_thread
import httpx

from batchrun.net.body import body_parts

_PIECE_BYTES = 2**20
_UNKNOWN_TYPE = "application/octet-stream"
_UNFINISHED = ".unfinished-"


class SavedFile(TypedDict):
    """A file that was taken from a service.

    Attributes:
        name: as the service calls it, else the last part of the address; null where that is empty.
        sha256: of its content, in hexadecimal.
    """

    name: str | None
    media_type: str
    size_bytes: int
    path: str
    sha256: str


def path_of(folder: Path, sha256: str) -> Path:
    """Where the file with this content is."""
    return folder / sha256[:2] / sha256


def clean(folder: Path) -> None:
    """Remove what processes that were killed have left unfinished in a folder that no other process writes to."""
    if folder.is_dir():
        for path in folder.glob(f"{_UNFINISHED}*"):
            if not path.name.startswith(_own()):
                path.unlink(missing_ok=True)


class Saving:
    """Takes the body of one answer into a file, which is there under its name once it is whole and safe on the disk.

    Args:
        folder: where files go; it is made when there is none.
        name: what the file is called where the service does not say.

    Attributes:
        found: the file.
    """

    found: SavedFile

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name

    async def read(self, response: httpx.Response, max_bytes: int) -> bytes:
        """Take the body, decompressed; as `read_body`, but nothing of it is given back.

        Raises:
            TooLarge, ResponseError, httpx.TransportError: as `read_body`.
            OSError: the disk is full, for example.
        """
        target = await anyio.to_thread.run_sync(_Target, self._folder)
        try:
            waiting = bytearray()
            async for part in body_parts(response, max_bytes):
                waiting += part
                if len(waiting) >= _PIECE_BYTES:
                    await anyio.to_thread.run_sync(target.write, waiting)
                    waiting = bytearray()
            await anyio.to_thread.run_sync(target.write, waiting)
            path = await anyio.to_thread.run_sync(target.finish)
        finally:
            target.close()
        kind = response.headers.get("content-type", "").strip() or _UNKNOWN_TYPE
        self.found = SavedFile(
            name=_name(response, self._name), media_type=kind, size_bytes=target.size_bytes, path=str(path), sha256=path.name
        )
        return b""


class _Target:
    """A file that is being written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._descriptor, name = tempfile.mkstemp(prefix=_own(), dir=folder)
        self._path = Path(name)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytearray) -> None:
        self._hash.update(data)
        self.size_bytes += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def finish(self) -> Path:
        """Make it safe on the disk under its name."""
        path = path_of(self._folder, self._hash.hexdigest())
        path.parent.mkdir(exist_ok=True)
        os.fsync(self._descriptor)
        self._path.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return path

    def close(self) -> None:
        os.close(self._descriptor)
        with suppress(OSError):  # it has its name, or is of no use
            self._path.unlink(missing_ok=True)


def _own() -> str:
    return f"{_UNFINISHED}{os.getpid()}-"


def _name(response: httpx.Response, otherwise: str) -> str | None:
    message = Message()
    message["content-disposition"] = response.headers.get("content-disposition", "")
    return PureWindowsPath(message.get_filename() or unquote(otherwise)).name or None  # a name, whichever separators a service puts into it
