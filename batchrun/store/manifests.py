"""The files of named datasets in managed storage: a manifest per version, tags, snapshots and what is being added."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from batchrun.store.database import StoreError

_ADDING = ".adding-"
_NAMES = "names.json"


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turn what the system says about the managed storage into a `StoreError`."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise StoreError(
            f"cannot use the datasets in {folder}: {where}: {error.strerror}; free space, or choose another folder with BATCHRUN_HOME"
        ) from error


class Manifests:
    """The folder of the named datasets: what can be read there is all there is to know about them.

    `NAME/3.json` is the manifest of version 3, `NAME/names.json` has the tags and the highest number that was ever given,
    `.objects/` the copies. Every file is complete or not there. For changes, hold the lock.

    Args:
        folder: the folder; made when something is written.

    Attributes:
        folder: as above.
        objects: the folder of the copies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects = folder / ".objects"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes anything while the block runs. Waits for others, who are quick.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder for files that are not complete. Those that killed processes have left are removed.

        Raises:
            OSError: the folder cannot be made.
        """
        with self.locked():  # so that a removal sees that something is being added
            for left in self._workspaces():
                if not _is_held(left):
                    shutil.rmtree(left, ignore_errors=True)
            made = Path(tempfile.mkdtemp(prefix=_ADDING, dir=self.folder))
            descriptor = os.open(made, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
            os.close(descriptor)

    def is_something_added(self) -> bool:
        """Whether a process is adding a version, which may need copies that nothing refers to yet. Ask under the lock."""
        return any(map(_is_held, self._workspaces()))

    def listed(self) -> dict[str, tuple[int, ...]]:
        """The numbers of the versions of each dataset, ascending."""
        found = {}
        for folder in self._entries(self.folder):
            if not folder.name.startswith(".") and folder.is_dir():
                numbers = (path.stem for path in self._entries(folder) if path.suffix == ".json")
                found[folder.name] = tuple(sorted(int(number) for number in numbers if number.isascii() and number.isdecimal()))
        return found

    def read(self, name: str, version: int) -> Any:
        """The manifest of a version.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not JSON.
        """
        return orjson.loads(self._path(name, version).read_bytes())

    def write(self, name: str, version: int, manifest: Mapping[str, Any]) -> None:
        """Write the manifest of a version, in one step.

        Raises:
            OSError: it cannot be written.
        """
        _write(self._path(name, version), manifest)

    def remove(self, name: str, version: int) -> None:
        """Remove the manifest of a version.

        Raises:
            OSError: it cannot be removed.
        """
        self._path(name, version).unlink(missing_ok=True)

    def names(self, name: str) -> tuple[dict[str, int], int]:
        """The tags of a dataset, and the highest number that was given to a version of it."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = orjson.loads((self.folder / name / _NAMES).read_bytes())
            return dict(content["tags"]), int(content["last_version"])
        return {}, 0

    def write_names(self, name: str, tags: Mapping[str, int], last_version: int) -> None:
        """Write the tags of a dataset, and the highest number that was given to a version of it.

        Raises:
            OSError: they cannot be written.
        """
        _write(self.folder / name / _NAMES, {"last_version": last_version, "tags": dict(tags)})

    def copies(self) -> Iterator[Path]:
        """Every copy there is."""
        for folder in self._entries(self.objects):
            yield from self._entries(folder)

    def _path(self, name: str, version: int) -> Path:
        return self.folder / name / f"{version}.json"

    def _workspaces(self) -> Iterator[Path]:
        return (path for path in self._entries(self.folder) if path.name.startswith(_ADDING))

    def _entries(self, folder: Path) -> list[Path]:
        try:
            return sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


def _is_held(workspace: Path) -> bool:
    """Whether the process that made it is still at work."""
    try:
        descriptor = os.open(workspace, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
