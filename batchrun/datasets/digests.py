"""Digests of files: what tells the content of a dataset from any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from batchrun.datasets.discover import DataFile, bad_path

_PIECE_BYTES = 64 * 2**20
_READ_BYTES = 2**20
_DIGEST_BYTES = 16


def digests_of(files: Sequence[DataFile]) -> tuple[str, ...]:
    """A digest of the bytes of each file. All files, and the parts of large ones, are read in parallel.

    Files whose digest is known already are not read.

    Raises:
        JobError: a file cannot be read, or is not of the size that was found.
    """
    unread = [file for file in files if file.digest is None]
    if len(unread) < len(files):
        read = iter(digests_of(unread))
        return tuple(file.digest if file.digest is not None else next(read) for file in files)
    starts = [list(range(0, max(file.size_bytes, 1), _PIECE_BYTES)) for file in files]
    pieces = [(file, start) for file, some in zip(files, starts, strict=True) for start in some]
    with ThreadPoolExecutor() as threads:
        parts = list(threads.map(_piece, *zip(*pieces, strict=True))) if pieces else []
    ends = [0]
    for some in starts:
        ends.append(ends[-1] + len(some))
    return tuple(_joined(parts[first:last]) for first, last in pairwise(ends))


def fingerprint_of(files: Sequence[DataFile], digests: Sequence[str]) -> str:
    """Identifies the content of a dataset: a hash of its files' paths inside the dataset, their sizes and their bytes."""
    parts = [[file.relative, file.size_bytes, digest] for file, digest in zip(files, digests, strict=True)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _joined(parts: Sequence[bytes]) -> str:
    """The digest of a file: that of its only part, else one of those of its parts."""
    return (parts[0] if len(parts) == 1 else hashlib.blake2b(b"".join(parts), digest_size=_DIGEST_BYTES).digest()).hex()


def _piece(file: DataFile, start: int) -> bytes:
    is_last = start + _PIECE_BYTES >= file.size_bytes
    left = _PIECE_BYTES + (1 if is_last else 0)  # one byte too far, to notice a file that grows
    wanted = min(_PIECE_BYTES, file.size_bytes - start)
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    buffer = memoryview(bytearray(_READ_BYTES))
    read = 0
    try:
        with file.open() as raw:
            raw.seek(start)
            while left > 0 and (count := raw.readinto(buffer[: min(left, _READ_BYTES)])):  # type: ignore[attr-defined]
                digest.update(buffer[:count])
                read += count
                left -= count
    except OSError as error:
        raise bad_path(f"{file.path} cannot be read: {error.strerror}") from error
    if read != wanted:
        raise bad_path(f"{file.path} changes while it is read; wait until it is written, or add it with --copy as a named dataset")
    return digest.digest()
