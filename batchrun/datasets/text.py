"""Files read from start to end within bounded memory: compressed or not, bytes or text of any encoding."""

from __future__ import annotations

import codecs
import io
import lzma
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar, cast

import pyarrow as pa

from batchrun.datasets.discover import COMPRESSIONS, DataFile, bad_path

MAX_LINE_CHARS = 16 * 2**20
"""The longest line and the longest cell."""
_MARK = "batchrun.mark"
_MARKED = re.compile("[\udc00-\udcff]")
_Part = TypeVar("_Part")


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_MARK, _mark)


def reading(file: DataFile, parts: Iterator[_Part]) -> Iterator[_Part]:
    """Parts of a file as they are read; damage to the file becomes a refusal that names it."""
    try:
        yield from parts
    except (OSError, EOFError, lzma.LZMAError, pa.ArrowException) as error:
        raise bad_path(f"{file.path} cannot be read: {error}") from error


def open_bytes(file: DataFile) -> BinaryIO:
    """The content of a file, decompressed as its suffix says."""
    compression = COMPRESSIONS.get(file.path.suffix.lower())
    if compression is None:
        return file.open()
    if compression == "xz":
        return cast("BinaryIO", lzma.open(file.path if isinstance(file.path, Path) else file.open()))
    if isinstance(file.path, Path):
        return cast("BinaryIO", pa.input_stream(str(file.path), compression=compression))
    return cast("BinaryIO", pa.CompressedInputStream(pa.PythonFile(file.open(), mode="r"), compression))


@contextmanager
def open_utf8(file: DataFile, encoding: str) -> Iterator[Callable[[int], bytes]]:
    """A file as UTF-8: what is called for its next part, which is empty at the end. `decoded` makes text of whole lines of it."""
    if _is_utf8(encoding):
        with open_bytes(file) as content:
            yield content.read
    else:
        with _open_text(file, encoding) as text:
            yield lambda chars: text.read(chars).encode("utf-8", "surrogatepass")


def decoded(data: bytes, encoding: str) -> str:
    """The text of some lines of a file that was opened as UTF-8. Bytes that are not valid in its own encoding become marks."""
    return data.decode("utf-8", _MARK if _is_utf8(encoding) else "surrogatepass")


def _open_text(file: DataFile, encoding: str) -> TextIO:
    return io.TextIOWrapper(open_bytes(file), encoding=encoding, errors=_MARK, newline="")


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


def has_marks(text: str) -> bool:
    """Whether the text stands for bytes that could not be decoded."""
    return _MARKED.search(text) is not None


def show_marks(text: str) -> str:
    r"""The text with each undecodable byte as `\xff`, so that it can be stored and printed."""
    return _MARKED.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)
