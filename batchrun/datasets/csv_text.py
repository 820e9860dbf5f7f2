"""The text of a CSV file: line by line, or in long stretches of records that need no second look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TextIO

from batchrun.core.formats import CsvFormat
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.text import MAX_LINE_CHARS

_FIRST_CHARS = 2**16
_MOST_CHARS = 4 * 2**20


class Stretch(NamedTuple):
    """Whole records that follow on one another: how many, with how many cells, and in how many lines.

    A blank line counts as a record of one cell.
    """

    text: str
    rows: int
    cells: int
    lines: int


class CsvText:
    """The text of one file from a position on, which only goes forward.

    Attributes:
        next_line: the number of the line at that position, counted from 1.
    """

    def __init__(self, text: TextIO, file: DataFile) -> None:
        self._text, self._file = text, file
        self._held, self._at, self._has_begun, self._has_ended = "", 0, False, False
        self._stretch_chars = _FIRST_CHARS
        self.next_line = 1

    def lines(self) -> Iterator[str]:
        """The lines one by one, each with its end.

        Raises:
            JobError: a line is too long.
        """
        while line := self._line():
            if len(line) == MAX_LINE_CHARS:
                raise bad_path(f"line {self.next_line} of {self._file.path} is longer than {MAX_LINE_CHARS:,} characters")
            self._at += len(line)
            self.next_line += 1
            yield line

    def stretch(self, form: CsvFormat) -> Stretch | None:
        """The next records, if they are plainly written; null: they are not, or there are none.

        The first stretches of a file are short, as its first rows may be all that is wanted.
        """
        self._fill(self._stretch_chars)
        found = plain_records(self._held[self._at : self._at + self._stretch_chars], form, is_end=self._is_end(self._stretch_chars))
        if found is not None:
            self._at += len(found.text)
            self.next_line += found.lines
            self._stretch_chars = min(2 * self._stretch_chars, _MOST_CHARS)
        return found

    def _is_end(self, chars: int) -> bool:
        return self._has_ended and len(self._held) - self._at <= chars

    def _fill(self, chars: int) -> None:
        """Hold so many characters of what comes, and one more, if there are as many."""
        missing = chars + 1 - (len(self._held) - self._at)
        if missing > 0 and not self._has_ended:
            parts = [self._held[self._at :]]
            while missing > 0 and (part := self._text.read(max(missing, _FIRST_CHARS))):
                parts.append(part)
                missing -= len(part)
            self._held, self._at, self._has_ended = "".join(parts), 0, missing > 0
            if not self._has_begun:
                self._held = self._held.removeprefix("\ufeff")
                self._has_begun = True

    def _line(self) -> str:
        chars = _FIRST_CHARS
        while True:
            held, at = self._held, self._at
            end = held.find("\n", at)
            mark = held.find("\r", at, end if end >= 0 else len(held))
            if mark >= 0 and mark + 1 != end and (mark + 1 < len(held) or self._has_ended):
                end = mark
            if end >= 0 or self._has_ended or len(held) - at >= MAX_LINE_CHARS:
                return held[at : min(end + 1 if end >= 0 else len(held), at + MAX_LINE_CHARS)]
            chars = min(2 * max(chars, len(held) - at), MAX_LINE_CHARS)
            self._fill(chars)


def plain_records(text: str, form: CsvFormat, *, is_end: bool) -> Stretch | None:
    r"""The whole records that a text begins with, if any reader of CSV files understands them in the same way.

    That is so when quotes are around whole cells only, and no line ends in a way of its own. Blank lines are refused where no record
    has two cells, as they cannot be told from empty ones there.

    Args:
        text: it begins where a record begins.
        form: how the file is written.
        is_end: whether nothing follows the text.

    Returns:
        Null when they are not all of this kind, or when no record ends in the text.

    Example:
        >>> plain_records('1,"two\nlines"\n2,', CsvFormat(), is_end=False)
        Stretch(text='1,"two\nlines"\n', rows=1, cells=2, lines=2)
    """
    # Where quotes are around whole cells, every second part is outside of them.
    parts = [text] if form.quote is None else text.split(form.quote)
    if not (is_end and len(parts) % 2 == 1):
        at = len(parts) - 1 - (len(parts) + 1) % 2
        while at >= 0 and "\n" not in parts[at]:
            at -= 2
        if at < 0:
            return None
        parts = [*parts[:at], parts[at][: parts[at].rindex("\n") + 1]]
    outside = parts[::2]
    begins, ends = {part[:1] for part in outside[1:]}, {part[-1:] for part in outside[:-1]}
    if begins - {"", form.delimiter, "\r", "\n"} or ends - {"", form.delimiter, "\n"}:
        return None
    quote = form.quote or ""
    shape = quote.join(outside)
    if not shape or ("\r" in shape and shape.count("\r") != shape.count("\r\n")):
        return None
    if form.delimiter not in shape and (shape.startswith(("\n", "\r\n")) or "\n\n" in shape or "\n\r\n" in shape):
        return None
    rows = shape.count("\n")
    whole, lines = shape, rows
    if len(parts) > 1:
        whole = quote.join(parts)
        lines = whole.count("\n") + (whole.count("\r") - whole.count("\r\n") if "\r" in whole else 0)
    rows += not shape.endswith("\n")
    return Stretch(whole, rows, shape.count(form.delimiter) + rows, lines)
