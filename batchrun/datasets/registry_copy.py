"""Snapshots: copies of files under names made from their content, so that equal files are kept once."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

from batchrun.core.dataset_versions import VersionFile
from batchrun.datasets.digests import digests_of
from batchrun.datasets.discover import COMPRESSIONS, DataFile, bad_path

_FICLONE = 0x40049409
_COPY_BYTES = 8 * 2**20
_SUFFIX_CHARS = 16
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF, errno.ETXTBSY}


def object_of(objects: Path, file: VersionFile) -> Path:
    """Where the copy of a file is. It keeps the suffix, which says how the file is compressed."""
    path = PurePosixPath(file.relative.lower())
    suffix = "".join(path.suffixes[-2:]) if path.suffix in COMPRESSIONS else path.suffix
    return objects / file.digest[:2] / (file.digest[2:] + (suffix if len(suffix) <= _SUFFIX_CHARS else ""))


def snapshot(files: Sequence[DataFile], objects: Path, workspace: Path) -> tuple[DataFile, ...]:
    """Copy the files that are not kept yet, or whose copies are damaged. Returns the copies, as files of the same dataset.

    A copy is a reflink where the file system has them, else a copy of the bytes, never a hard link: a later change of the
    file leaves the copy as it is. It is on the disk under its final name, read-only, or not there at all.

    Args:
        files: the files.
        objects: the folder of all copies.
        workspace: a folder of the same file system for copies that are not complete.

    Raises:
        JobError: a file cannot be read.
        OSError: a copy cannot be written.
    """
    digests = digests_of(files)
    places = [_place(objects, file, digest) for file, digest in zip(files, digests, strict=True)]
    there = [at for at, place in enumerate(places) if _has_size(place, files[at].size_bytes)]
    found = digests_of([replace(files[at], path=places[at]) for at in there])
    missing = sorted({*range(len(files))} - {at for at, digest in zip(there, found, strict=True) if digest == digests[at]})
    copies = [replace(files[at], path=workspace / f"{at:06}") for at in missing]
    with ThreadPoolExecutor() as threads:
        copied = list(threads.map(_clone, (files[at] for at in missing), copies))
    # The name is made from what was copied: the file may have changed since it was looked at.
    folders = {objects}
    for at, copy, digest in zip(missing, copied, digests_of(copied), strict=True):
        places[at] = _place(objects, copy, digest)
        places[at].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(str(copy.path)).replace(places[at])
        folders.add(places[at].parent)
    for folder in folders if missing else ():
        _sync(folder)
    sizes = {at: copy.size_bytes for at, copy in zip(missing, copied, strict=True)}
    return tuple(
        replace(file, path=place, size_bytes=sizes.get(at, file.size_bytes))
        for at, (file, place) in enumerate(zip(files, places, strict=True))
    )


def _place(objects: Path, file: DataFile, digest: str) -> Path:
    return object_of(objects, VersionFile(file.relative, file.size_bytes, digest))


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except FileNotFoundError:
        return False


def _clone(file: DataFile, copy: DataFile) -> DataFile:
    """Write a copy, synced and read-only. Returns it with the size it came to have."""
    try:
        read = file.open()
    except OSError as error:
        raise bad_path(f"{file.path} cannot be read: {error.strerror}") from error
    with read, Path(str(copy.path)).open("xb") as write:
        try:
            fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
        except OSError as error:
            if error.errno not in _CANNOT_CLONE:
                raise
            shutil.copyfileobj(read, write, _COPY_BYTES)
        write.flush()
        os.fchmod(write.fileno(), 0o400)
        os.fsync(write.fileno())
        return replace(copy, size_bytes=os.fstat(write.fileno()).st_size)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
