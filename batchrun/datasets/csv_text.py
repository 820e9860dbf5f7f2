"""The text of a CSV file: line by line, or in long stretches of records that need no second look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from batchrun.core.formats import CsvFormat
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.text import MAX_LINE_CHARS, decoded

_FIRST_BYTES = 2**16
_MOST_BYTES = 2 * 2**20
_CHAR_BYTES = 4
"""The most that a character takes in UTF-8."""


class Stretch(NamedTuple):
    """Whole records that follow on one another, as UTF-8: how many, with how many cells, and in how many lines.

    A blank line counts as a record of one cell.
    """

    data: bytes
    rows: int
    cells: int
    lines: int
    has_quotes: bool


class CsvText:
    """The text of one file from a position on, which only goes forward.

    Attributes:
        next_line: the number of the line at that position, counted from 1.
    """

    def __init__(self, read: Callable[[int], bytes], file: DataFile, encoding: str) -> None:
        self._read, self._file, self._encoding = read, file, encoding
        self._held, self._at, self._has_begun, self._has_ended = b"", 0, False, False
        self._stretch_bytes = _FIRST_BYTES
        self.next_line = 1

    def lines(self) -> Iterator[str]:
        """The lines one by one, each with its end.

        Raises:
            JobError: a line is too long.
        """
        while line := self._line():
            text = decoded(line, self._encoding)
            if len(text) >= MAX_LINE_CHARS:
                raise bad_path(f"line {self.next_line} of {self._file.path} is longer than {MAX_LINE_CHARS:,} characters")
            self._at += len(line)
            self.next_line += 1
            yield text

    def stretch(self, form: CsvFormat) -> Stretch | None:
        """The next records, if they are plainly written; null: they are not, or there are none.

        The first stretches of a file are short, as its first rows may be all that is wanted.
        """
        self._fill(self._stretch_bytes)
        is_end, stop = self._is_end(self._stretch_bytes), self._at + self._stretch_bytes
        if not is_end:  # cut before it is copied, not after
            stop = self._held.rfind(b"\n", self._at, stop) + 1 or stop
        found = plain_records(self._held[self._at : stop], form, is_end=is_end)
        if found is not None:
            self._at += len(found.data)
            self.next_line += found.lines
            self._stretch_bytes = min(2 * self._stretch_bytes, _MOST_BYTES)
        return found

    def _is_end(self, size: int) -> bool:
        return self._has_ended and len(self._held) - self._at <= size

    def _fill(self, size: int) -> None:
        """Hold so many bytes of what comes, and one more, if there are as many."""
        missing = size + 1 - (len(self._held) - self._at)
        if missing > 0 and not self._has_ended:
            parts = [self._held[self._at :]]
            while missing > 0 and (part := self._read(max(missing, _FIRST_BYTES))):
                parts.append(part)
                missing -= len(part)
            self._held, self._at, self._has_ended = b"".join(parts), 0, missing > 0
            if not self._has_begun:
                self._held = self._held.removeprefix("\ufeff".encode())
                self._has_begun = True

    def _line(self) -> bytes:
        size, most = _FIRST_BYTES, _CHAR_BYTES * MAX_LINE_CHARS
        while True:
            held, at = self._held, self._at
            end = held.find(b"\n", at)
            mark = held.find(b"\r", at, end if end >= 0 else len(held))
            if mark >= 0 and mark + 1 != end and (mark + 1 < len(held) or self._has_ended):
                end = mark
            if end >= 0 or self._has_ended or len(held) - at >= most:
                return held[at : min(end + 1 if end >= 0 else len(held), at + most)]
            size = min(2 * max(size, len(held) - at), most)
            self._fill(size)


def plain_records(data: bytes, form: CsvFormat, *, is_end: bool) -> Stretch | None:
    r"""The whole records that a text begins with, if any reader of CSV files understands them in the same way.

    That is so when quotes are around whole cells only, and no line ends in a way of its own. Blank lines are refused where no record
    has two cells, as they cannot be told from empty ones there.

    Args:
        data: as UTF-8; it begins where a record begins.
        form: how the file is written.
        is_end: whether nothing follows the text.

    Returns:
        Null when they are not all of this kind, or when no record ends in the text.

    Example:
        >>> plain_records(b'1,"two\nlines"\n2,', CsvFormat(), is_end=False)
        Stretch(data=b'1,"two\nlines"\n', rows=1, cells=2, lines=2, has_quotes=True)
    """
    quote, delimiter = (form.quote or "").encode(), form.delimiter.encode()
    has_quotes = bool(quote) and quote in data
    if has_quotes:
        # Where quotes are around whole cells, every second part is outside of them.
        parts = data.split(quote)
        if not (is_end and len(parts) % 2 == 1):
            at = len(parts) - 1 - (len(parts) + 1) % 2
            while at >= 0 and b"\n" not in parts[at]:
                at -= 2
            if at < 0:
                return None
            record = parts[at][: parts[at].rindex(b"\n") + 1]
            data = data[: len(data) - sum(len(part) + 1 for part in parts[at + 1 :]) - len(parts[at]) + len(record)]
            parts = [*parts[:at], record]
        shape = quote.join(parts[::2])
        if not _has_whole_cells(shape, quote, delimiter):
            return None
    else:
        data = shape = data if is_end else data[: data.rfind(b"\n") + 1]
    if not shape or (b"\r" in shape and shape.count(b"\r") != shape.count(b"\r\n")):
        return None
    if delimiter not in shape and _has_blank_lines(shape):
        return None
    rows = lines = _count(shape, b"\n")
    if has_quotes:
        lines = _count(data, b"\n") + (data.count(b"\r") - data.count(b"\r\n") if b"\r" in data else 0)
    rows += not shape.endswith(b"\n")
    return Stretch(data, rows, _count(shape, delimiter) + rows, lines, has_quotes)


def _has_blank_lines(shape: bytes) -> bool:
    return shape.startswith((b"\n", b"\r\n")) or b"\n\n" in shape or b"\n\r\n" in shape


def _has_whole_cells(shape: bytes, quote: bytes, delimiter: bytes) -> bool:
    """Whether only whole cells are in quotes, in records that have one quote in the place of each text in quotes."""
    values = _values(shape)
    is_quote = values == quote[0]
    before = is_quote | (values == delimiter[0]) | (values == ord("\n"))
    after = before | (values == ord("\r"))
    rest = len(values) - 1
    return not ((is_quote.slice(1) & ~before.slice(0, rest)).any() or (is_quote.slice(0, rest) & ~after.slice(1)).any())


def padded_cells(data: bytes, delimiter: str) -> int:
    r"""How many cells begin with a space or a tab, in records without quotes that are plainly written.

    Example:
        >>> padded_cells(b"1, 2\n 3,4\n", ",")
        2
    """
    values = _values(data)
    begins, blank = (values == ord(delimiter)) | (values == ord("\n")), values == ord(" ")
    if b"\t" in data:
        blank |= values == ord("\t")
    return int((begins.slice(0, len(values) - 1) & blank.slice(1)).sum()) + data.startswith((b" ", b"\t"))


def _count(data: bytes, character: bytes) -> int:
    """How often a character is there, in a tenth of the time that `bytes.count` takes where it is often."""
    return int((_values(data) == character[0]).sum())


def _values(data: bytes) -> pl.Series:
    return pl.Series(pa.Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)]))
