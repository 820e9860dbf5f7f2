"""CSV files: their header and column types, and their rows with a reason for each one that does not parse."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import chain, islice
from operator import or_
from typing import Any, Literal, NamedTuple

import polars as pl

from batchrun.core.formats import CsvFormat
from batchrun.datasets.ahead import each_ahead
from batchrun.datasets.csv_text import CsvText, Stretch, padded_cells
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.schema import dtype_name, from_text, guess_type
from batchrun.datasets.text import MAX_LINE_CHARS, decoded, has_marks, open_utf8, reading, show_marks
from batchrun.datasets.unions import HINT, SchemaMode

_CHUNK_ROWS = 8_192
_CHUNK_CHARS = 4 * 2**20
_SAMPLE_ROWS = 6 * _CHUNK_ROWS
_SAMPLE_BYTES = 6 * _CHUNK_CHARS


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
    """Some consecutive records.

    Attributes:
        text: empty where they are plainly written.
        rows: their cells; null when they were not looked at, or one of them is not CSV.
        plain: the records, where they are plainly written.
    """

    first_line: int
    text: str = ""
    rows: list[list[str]] | None = None
    plain: Stretch | None = None


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
        for frame, bad in each_ahead(partial(self._typed, file), reading(file, self._chunks(file))):
            for row in bad:
                reject(row)
            yield frame

    def _typed(self, file: DataFile, chunk: _Chunk) -> tuple[pl.DataFrame, list[BadRow]]:
        """The good rows of a chunk, typed, and the others."""
        text, records = self._split(chunk)
        typed = text.select(from_text(name, dtype) for name, dtype in self.types.items())
        suspects = [name for name in self.types if typed[name].null_count() != text[name].null_count()]
        wrong = {name: text[name].is_not_null() & typed[name].is_null() for name in suspects}
        is_bad = reduce(or_, wrong.values(), pl.repeat(False, text.height, dtype=pl.Boolean, eager=True))
        if is_bad.any() or any(record.reason for record in records):
            records = records or list(self._records(chunk))
            good = [at for at, record in enumerate(records) if record.reason is None]
            for row in is_bad.arg_true():
                name = next(name for name, failed in wrong.items() if failed[row])
                records[good[row]] = records[good[row]]._replace(reason=self._mismatch(name, text[name][row]))
        bad = [BadRow(file.relative, record.line_number, record.raw, record.reason) for record in records if record.reason is not None]
        return (typed.filter(~is_bad) if wrong else typed), bad

    def _chunks(self, file: DataFile) -> Iterator[_Chunk]:
        with open_utf8(file, self.form.encoding) as read:
            text = CsvText(read, file, self.form.encoding)
            if self.form.header:
                next((row for row in _csv(text.lines(), self.form) if row), None)
            while True:
                first_line = text.next_line
                stretch = text.stretch(self.form)
                if stretch is not None:
                    yield _Chunk(first_line, plain=stretch)
                    continue
                chunk = self._looked_at(text)
                if not chunk.text:
                    return
                yield chunk

    def _looked_at(self, text: CsvText) -> _Chunk:
        """The next records, whatever they look like."""
        first_line, lines = text.next_line, list[str]()
        reader = _csv(_kept(text.lines(), lines), self.form)
        rows: list[list[str]] = []
        while len(rows) < _CHUNK_ROWS:
            try:
                some = list(islice(reader, 256))
            except csv.Error:
                return _Chunk(first_line, "".join(lines))
            rows += some
            if not some or sum(map(len, lines)) >= _CHUNK_CHARS:
                break
        return _Chunk(first_line, "".join(lines), rows)

    def _split(self, chunk: _Chunk) -> tuple[pl.DataFrame, list[_Record]]:
        """The cells of the rows that have the right number of them, and the records if they had to be looked at."""
        if chunk.plain is not None and (text := self._at_once(chunk.plain)) is not None:
            return text, []
        rows = [row for row in chunk.rows or () if row]
        if chunk.rows is not None and all(len(row) == len(self.types) for row in rows):
            try:
                return self._as_text(rows), []
            except UnicodeEncodeError:
                # A cell has undecodable bytes: find out which.
                pass
        records = list(self._records(chunk))
        return self._as_text([record.cells for record in records if record.reason is None]), records

    def _at_once(self, plain: Stretch) -> pl.DataFrame | None:
        """The cells of records that are plainly written; null when there is something wrong with one of them."""
        if plain.cells != plain.rows * len(self.types):
            return None
        if not plain.has_quotes and self.form.null_values == ("",):
            cells = self._with_numbers(plain)
            if cells is not None:
                return cells
        text = self._read(plain, {})
        return None if text is None else self._with_nulls(text, [value for value in self.form.null_values if value or plain.has_quotes])

    def _with_numbers(self, plain: Stretch) -> pl.DataFrame | None:
        """The cells, read as numbers where they are; null when one is none.

        Polars makes the same numbers of the same cells as it makes of texts, but for those that begin with a blank, which are none here.
        """
        numbers = {name: dtype for name, dtype in self.types.items() if dtype in (pl.Int64, pl.Float64)}
        cells = self._read(plain, numbers) if numbers else None
        if cells is None:
            return None
        padded = padded_cells(plain.data, self.form.delimiter)
        if padded:
            texts = [cells[name].str for name in self.types if name not in numbers]
            blanks = [blank for blank in (" ", "\t") if blank.encode() in plain.data]
            padded -= sum(int(text.starts_with(blank).sum()) for text in texts for blank in blanks)
        return None if padded else cells

    def _read(self, plain: Stretch, types: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
        """The cells, as texts where nothing else is asked for; null when they are not such cells, or not as many."""
        names = {str(at): types.get(name, pl.String()) for at, name in enumerate(self.types)}
        try:
            cells = pl.read_csv(
                plain.data,
                has_header=False,
                schema=names,
                separator=self.form.delimiter,
                quote_char=self.form.quote,
                empty_string_is_null="" in self.form.null_values,
            )
        except pl.exceptions.PolarsError:
            return None
        # A row with too many cells is an error there, so there is none with too few either.
        return cells.rename(dict(zip(names, self.types, strict=True))) if cells.height == plain.rows else None

    def _as_text(self, rows: list[list[str]]) -> pl.DataFrame:
        columns = zip(*rows, strict=True) if rows else [()] * len(self.types)
        text = pl.DataFrame([pl.Series(name, cells, dtype=pl.String) for name, cells in zip(self.types, columns, strict=True)])
        return self._with_nulls(text, self.form.null_values)

    def _with_nulls(self, text: pl.DataFrame, nulls: Sequence[str]) -> pl.DataFrame:
        if not nulls or not text.height:
            return text
        is_null = {name: reduce(or_, (pl.col(name) == value for value in nulls)) for name in self.types}
        hit = text.select(expression.any().alias(name) for name, expression in is_null.items()).row(0, named=True)
        return text.with_columns(pl.when(~is_null[name]).then(pl.col(name)).alias(name) for name, has_any in hit.items() if has_any)

    def _records(self, chunk: _Chunk) -> Iterator[_Record]:
        """The records of a chunk, parsed again one by one, with where each starts and what is wrong with it."""
        text = chunk.text if chunk.plain is None else decoded(chunk.plain.data, self.form.encoding)
        lines = io.StringIO(text, newline="").readlines()
        reader = _csv(iter(lines), self.form)
        start = 0
        while start < len(lines):
            cells: list[str] = []
            reason = None
            try:
                cells = next(reader)
            except csv.Error as error:
                reason = f"not CSV: {error}"
            raw = "".join(lines[start : reader.line_num])
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
    frames = _first_rows(chain.from_iterable(as_text.frames(file, lambda _: None) for file in files), _SAMPLE_ROWS)
    # The first rows of each header, so that no column is without a type because its files come late.
    firsts = {tuple(header): file for file in reversed(files) if (header := columns.get(file.relative))}
    some = chain.from_iterable(_first_rows(as_text.frames(file, lambda _: None), _CHUNK_ROWS) for file in firsts.values())
    cells = pl.concat([pl.DataFrame(schema=as_text.types), *frames, *some])
    types = {name: declared.get(name) or guess_type(cells[name]) for name in names}
    return replace(as_text, types=types, declared=frozenset(declared))


def _first_rows(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The rows that a type is guessed by: so many, or those of some megabytes."""
    left_rows, left_bytes = rows, _SAMPLE_BYTES
    for frame in frames:
        yield frame.head(left_rows)
        left_rows -= frame.height
        left_bytes -= int(frame.estimated_size())
        if left_rows <= 0 or left_bytes <= 0:
            return


def _header(file: DataFile, form: CsvFormat) -> list[str]:
    with open_utf8(file, form.encoding) as read:
        try:
            first = next((row for row in _csv(reading(file, CsvText(read, file, form.encoding).lines()), form) if row), None)
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


def _kept(lines: Iterator[str], held: list[str]) -> Iterator[str]:
    """The same lines, which are also added to a list."""
    for line in lines:
        held.append(line)
        yield line


def _csv(lines: Iterator[str], form: CsvFormat) -> Any:
    # Documents are longer than the 128 KiB the csv module allows by default; there is only this global setting.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARS))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=form.delimiter, quotechar=form.quote, quoting=quoting, strict=True)
