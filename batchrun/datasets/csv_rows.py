"""CSV files: their header and column types, and their rows with a reason for each one that does not parse."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Literal, NamedTuple, TextIO

import polars as pl

from batchrun.core.formats import CsvFormat
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.schema import dtype_name, from_text, guess_type
from batchrun.datasets.text import MAX_LINE_CHARS, has_marks, open_text, reading, show_marks
from batchrun.datasets.unions import HINT, SchemaMode

_CHUNK_ROWS = 8_192
_CHUNK_CHARS = 4 * 2**20
_SAMPLE_CHUNKS = 6


class BadRow(NamedTuple):
    """A row that does not parse; `line_number` is the line of the file it starts on, counted from 1."""

    file: str
    line_number: int
    raw: str
    reason: str


class _Record(NamedTuple):
    cells: list[str]
    line_number: int
    raw: str
    reason: str | None


class _Chunk(NamedTuple):
    """Some consecutive records; `rows` is null when one of them is not CSV."""

    lines: list[str]
    first_line: int
    rows: list[list[str]] | None


class _Lines:
    """The lines of a file, one at a time; keeps those of the current chunk."""

    def __init__(self, text: TextIO, file: DataFile) -> None:
        self._text, self._file = text, file
        self.first_line = 1
        self.chunk: list[str] = []
        self.chars = 0

    def __iter__(self) -> Iterator[str]:
        for read in iter(lambda: self._text.readline(MAX_LINE_CHARS), ""):
            line = read
            if len(line) == MAX_LINE_CHARS:
                number = self.first_line + len(self.chunk)
                raise bad_path(f"line {number} of {self._file.path} is longer than {MAX_LINE_CHARS:,} characters")
            if self.first_line == 1 and not self.chunk:
                line = line.removeprefix("\ufeff")
            self.chunk.append(line)
            self.chars += len(line)
            yield line

    def turn(self) -> None:
        """Begin the next chunk."""
        self.first_line += len(self.chunk)
        self.chunk, self.chars = [], 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvReader:
    """Reads the files of one CSV dataset.

    Attributes:
        types: the type of each column.
        declared: the columns whose type the job gives.
        columns: those of each file, by its relative path, when they differ; in all others they are null.
    """

    form: CsvFormat
    types: Mapping[str, pl.DataType]
    declared: frozenset[str] = frozenset()
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def frames(self, file: DataFile, reject: Callable[[BadRow], None]) -> Iterator[pl.DataFrame]:
        """The good rows of a file, typed, some thousand at a time; the others go to `reject`, in order."""
        if file.relative in self.columns:
            own = {name: self.types[name] for name in self.columns[file.relative]}
            others = [pl.lit(None, dtype).alias(name) for name, dtype in self.types.items() if name not in own]
            for frame in replace(self, types=own, columns={}).frames(file, reject):
                yield frame.with_columns(others).select(*self.types)
            return
        for chunk in reading(file, self._chunks(file)):
            text, records = self._split(chunk)
            typed = text.select(from_text(name, dtype) for name, dtype in self.types.items())
            wrong = {name: text[name].is_not_null() & typed[name].is_null() for name in self.types}
            is_bad = pl.DataFrame(wrong).select(pl.any_horizontal(pl.all()).alias("bad"))["bad"]
            if is_bad.any() or any(record.reason for record in records):
                records = records or list(self._records(chunk))
                good = [at for at, record in enumerate(records) if record.reason is None]
                for row in is_bad.arg_true():
                    name = next(name for name, failed in wrong.items() if failed[row])
                    records[good[row]] = records[good[row]]._replace(reason=self._mismatch(name, text[name][row]))
                for record in records:
                    if record.reason is not None:
                        reject(BadRow(file.relative, record.line_number, record.raw, record.reason))
            yield typed.filter(~is_bad)

    def _chunks(self, file: DataFile) -> Iterator[_Chunk]:
        with open_text(file, self.form.encoding) as text:
            lines = _Lines(text, file)
            reader = _csv(iter(lines), self.form)
            if self.form.header:
                next((row for row in reader if row), None)
                lines.turn()
            while True:
                rows: list[list[str]] | None = []
                while rows is not None and len(rows) < _CHUNK_ROWS and lines.chars < _CHUNK_CHARS:
                    try:
                        some = list(islice(reader, 256))
                    except csv.Error:
                        rows = None
                        break
                    rows += some
                    if not some:
                        break
                if not lines.chunk:
                    return
                yield _Chunk(lines.chunk, lines.first_line, rows)
                lines.turn()

    def _split(self, chunk: _Chunk) -> tuple[pl.DataFrame, list[_Record]]:
        """The cells of the rows that have the right number of them, and the records if they had to be looked at."""
        rows = [row for row in chunk.rows or () if row]
        if chunk.rows is not None and all(len(row) == len(self.types) for row in rows):
            try:
                return self._as_text(rows), []
            except UnicodeEncodeError:
                # A cell has undecodable bytes: find out which.
                pass
        records = list(self._records(chunk))
        return self._as_text([record.cells for record in records if record.reason is None]), records

    def _as_text(self, rows: list[list[str]]) -> pl.DataFrame:
        columns = zip(*rows, strict=True) if rows else [()] * len(self.types)
        text = pl.DataFrame([pl.Series(name, cells, dtype=pl.String) for name, cells in zip(self.types, columns, strict=True)])
        nulls = list(self.form.null_values)
        return text.select(pl.when(~pl.col(name).is_in(nulls)).then(pl.col(name)).alias(name) for name in self.types) if nulls else text

    def _records(self, chunk: _Chunk) -> Iterator[_Record]:
        """The records of a chunk, parsed again one by one, with where each starts and what is wrong with it."""
        reader = _csv(iter(chunk.lines), self.form)
        start = 0
        while start < len(chunk.lines):
            cells: list[str] = []
            reason = None
            try:
                cells = next(reader)
            except csv.Error as error:
                reason = f"not CSV: {error}"
            raw = "".join(chunk.lines[start : reader.line_num])
            if reason is None and has_marks(raw):
                reason = f"bytes that are not {self.form.encoding}"
            elif reason is None and cells and len(cells) != len(self.types):
                reason = f"{len(cells)} cells instead of {len(self.types)}"
            if cells or reason:
                yield _Record(cells, chunk.first_line + start, show_marks(raw.rstrip("\r\n")), reason)
            start = reader.line_num

    def _mismatch(self, name: str, cell: str) -> str:
        kind = dtype_name(self.types[name])
        if name in self.declared:
            return f'column "{name}" is declared as {kind}, got "{cell[:80]}"'
        return f'column "{name}" looked like {kind} at first, got "{cell[:80]}"; if that is right, set dataset.schema: {{{name}: string}}'


def csv_reader(files: Sequence[DataFile], form: CsvFormat, declared: Mapping[str, pl.DataType], mode: SchemaMode) -> CsvReader:
    """The reader of CSV files: the columns by their headers, the types by their first rows where they are not declared.

    Raises:
        JobError: the headers differ, or are not usable.
        LookupError: there is no such encoding.
    """
    codecs.lookup(form.encoding)
    headers = {file.relative: _header(file, form) for file in files}
    names = headers[files[0].relative]
    other = next((file for file in files if headers[file.relative] != names), None)
    if mode == "same" and other is not None:
        differ = f"{files[0].relative} has {names}, {other.relative} has {headers[other.relative]}"
        raise bad_path(f"the files do not have the same header: {differ}; {HINT}")
    names = list(dict.fromkeys(chain.from_iterable(headers.values())))
    columns = headers if other is not None else {}
    as_text = CsvReader(form=form, types=dict.fromkeys(names, pl.String()), columns=columns)
    frames = chain.from_iterable(as_text.frames(file, lambda _: None) for file in files)
    # The first rows of each header, so that no column is without a type because its files come late.
    firsts = {tuple(header): file for file in reversed(files) if (header := columns.get(file.relative))}
    some = chain.from_iterable(islice(as_text.frames(file, lambda _: None), 1) for file in firsts.values())
    cells = pl.concat([pl.DataFrame(schema=as_text.types), *islice(frames, _SAMPLE_CHUNKS), *some])
    types = {name: declared.get(name) or guess_type(cells[name]) for name in names}
    return replace(as_text, types=types, declared=frozenset(declared))


def _header(file: DataFile, form: CsvFormat) -> list[str]:
    with open_text(file, form.encoding) as text:
        try:
            first = next((row for row in _csv(reading(file, iter(_Lines(text, file))), form) if row), None)
        except csv.Error as error:
            raise bad_path(f"the first line of {file.path} is not CSV: {error}; see dataset.csv") from error
    if first is None:
        raise bad_path(f"{file.path} has no header line and no rows")
    if any(has_marks(name) or "\0" in name for name in first):
        raise bad_path(f"the first line of {file.path} is not {form.encoding}; set dataset.csv.encoding")
    names = [name if form.header and name else f"column_{at}" for at, name in enumerate(first)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise bad_path(f"the header of {file.path} names these columns more than once: {', '.join(twice)}")
    return names


def _csv(lines: Iterator[str], form: CsvFormat) -> Any:
    # Documents are longer than the 128 KiB the csv module allows by default; there is only this global setting.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARS))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=form.delimiter, quotechar=form.quote, quoting=quoting, strict=True)
