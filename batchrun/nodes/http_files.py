"""Files that `http` nodes send from the disk, and take to it."""

from __future__ import annotations

import stat
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
import httpx

from batchrun.core.errors import FileUnreadable
from batchrun.net.client import READ
from batchrun.net.parts import text_of
from batchrun.net.saving import Saving, clean, path_of
from batchrun.net.upload import FileUpload
from batchrun.nodes.file_reader import find_path, media_type_of, unreadable
from batchrun.workflows.fingerprint import references_in
from batchrun.workflows.home import EXECUTION_FOLDER
from batchrun.workflows.node import NodeCompiler, Render
from batchrun.workflows.scope import Scope

MAX_FILE_BYTES = 2**30
"""The largest answer taken into a file unless the job says otherwise."""


class UploadedFile(NamedTuple):
    """A file that is the body of a request."""

    content: FileUpload
    media_type: str


class Files:
    """The folder of an execution that nodes leave files in. Known while the execution runs."""

    def __init__(self) -> None:
        self.folder = Path()

    def open(self) -> None:
        """Find the folder of the execution that is about to run; without one, one that all nodes of this process share."""
        home = EXECUTION_FOLDER.get()
        self.folder = _shared() if home is None else home / "files"
        clean(self.folder)

    def saving(self, request: httpx.Request) -> Saving:
        """Have the answer to a request taken into a file."""
        saving = Saving(self.folder, request.url.raw_path.decode("ascii").partition("?")[0].rpartition("/")[2])
        request.extensions[READ] = saving.read
        return saving

    def restore(self, value: Any) -> Any:
        """A file that an earlier run has taken, where it is now: folders of executions may be moved."""
        if value is None or Path(value["path"]).exists():
            return value
        moved = path_of(self.folder, value["sha256"])
        return {**value, "path": str(moved)} if moved.is_file() else value


class Uploads:
    """Opens the files that a node sends.

    Args:
        path: gives the path for an item.
        start: what relative paths start from.
        allowed: the folders it may lead into, as real paths, besides that of `Files`; null: anywhere.
    """

    def __init__(self, path: Render, start: Path, allowed: tuple[Path, ...] | None) -> None:
        self._path = path
        self._start = start
        self._allowed = allowed

    async def open(self, scope: Scope, files: Files) -> UploadedFile:
        """The file for an item.

        Raises:
            NodeError: it is not allowed, not there, or cannot be read.
        """
        path = self._start / text_of(self._path(scope), "file")
        return await anyio.to_thread.run_sync(_opened, path, None if self._allowed is None else (*self._allowed, files.folder))


def bind_upload(source: str, allow_paths: tuple[str, ...] | None, compiler: NodeCompiler) -> Uploads | None:
    """What opens the file that `request.file` names. Null when problems were reported."""
    folders = []
    for index, entry in enumerate(allow_paths or ()):
        folder = (compiler.folder / entry).resolve()
        if not folder.is_dir():
            compiler.problem(f"{entry!r} is not a folder; it is looked for in {compiler.folder}", "allow_paths", index)
        folders.append(folder)
    roots = {reference[0] for reference in references_in(source)}
    if roots - {"vars", "nodes"} and not allow_paths:
        compiler.problem("the path comes from item data: name the folders it may lead into under allow_paths", "request", "file")
        return None
    render = compiler.template(source, "request", "file")
    return Uploads(render, compiler.folder, None if roots <= {"vars"} else tuple(folders))


@cache
def _shared() -> Path:
    return Path(tempfile.mkdtemp(prefix="batchrun-files-"))


def _opened(path: Path, allowed: tuple[Path, ...] | None) -> UploadedFile:
    found = find_path(path, None if allowed is None else tuple(folder.resolve() for folder in allowed))
    try:
        if not stat.S_ISREG(found.stat().st_mode):
            raise FileUnreadable(f"{found} is a folder, a device or a pipe, not a file")
        return UploadedFile(FileUpload(found), media_type_of(found))
    except OSError as error:
        raise unreadable(found, error) from error
