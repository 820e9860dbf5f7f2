"""NDJSON files: the column types, and the rows; every line must be an object that fits them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
import polars as pl

from batchrun.core.errors import JobError
from batchrun.datasets.discover import DataFile, bad_path
from batchrun.datasets.schema import dtype_name, from_text
from batchrun.datasets.text import MAX_LINE_CHARS, open_bytes, reading
from batchrun.datasets.unions import SchemaMode

_CHUNK_BYTES = 4 * 2**20
_SAMPLE_ROWS = 20_000
_SAMPLE_BYTES = 16 * 2**20
_FILE_ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NdjsonReader:
    """Reads the files of one NDJSON dataset.

    Attributes:
        types: the type of each column.
        declared: the columns whose type the job gives. They are read as text first, so that any value can be declared string.
        keys: the paths of all keys there is room for.
    """

    types: Mapping[str, pl.DataType]
    declared: frozenset[str]
    keys: frozenset[str]

    def frames(self, file: DataFile) -> Iterator[pl.DataFrame]:
        """The rows of a file, some thousand at a time.

        Raises:
            JobError: a line is not a JSON object, has a key no column is for, or a value that is not of its column's type.
        """
        texts = {name for name, dtype in self.types.items() if dtype == pl.String} | self.declared
        for first_line, lines in reading(file, _chunks(file)):
            found: set[str] = set()
            for at, line in enumerate(lines):
                _add_keys(_parse(line, file, first_line + at), "", found)
            late = sorted(key for key in found - self.keys if key.split("\0", 1)[0] not in texts)
            if late:
                at = next(at for at, line in enumerate(lines) if _has_key(line, late[0]))
                shown, column = late[0].replace("\0", "."), late[0].split("\0", 1)[0]
                reason = f'the key "{shown}" is in none of the first rows; declare it in dataset.schema: {{{column}: string}}'
                raise _bad_line(file, first_line + at, lines[at], reason)
            try:
                yield self._read(lines)
            except pl.exceptions.PolarsError as error:
                at, reason = self._first_failing(lines, str(error))
                reason += "; declare the column in dataset.schema, as string for example"
                raise _bad_line(file, first_line + at, lines[at], reason) from error

    def _read(self, lines: list[bytes]) -> pl.DataFrame:
        if not any(line.strip() for line in lines):
            return pl.DataFrame(schema=self.types)
        read_as = {name: pl.String() if name in self.declared else dtype for name, dtype in self.types.items()}
        text = pl.read_ndjson(io.BytesIO(b"".join(lines)), schema=read_as)
        typed = text.with_columns(from_text(name, self.types[name]) for name in self.declared)
        for name in self.declared:
            wrong = text[name].filter(text[name].is_not_null() & typed[name].is_null())
            if len(wrong):
                raise pl.exceptions.ComputeError(f'column "{name}" is declared as {dtype_name(self.types[name])}, got "{wrong[0]}"')
        return typed

    def _first_failing(self, lines: list[bytes], reason: str) -> tuple[int, str]:
        """The first line that cannot be read, found by halving, and why."""
        low, high = 0, len(lines)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self._read(lines[low:middle])
                low = middle
            except pl.exceptions.PolarsError as error:
                high, reason = middle, str(error)
        return low, reason.split("\n", 1)[0]


def ndjson_reader(files: Sequence[DataFile], declared: Mapping[str, pl.DataType], mode: SchemaMode) -> NdjsonReader:
    """The reader of NDJSON files, with types by their first rows. A column of different kinds of values is read as text (JSON).

    Raises:
        JobError: a line is not a JSON object.
    """
    rows = _first_rows(files)
    if mode == "union":
        for file in files:
            rows += _first_rows([file], max(_SAMPLE_ROWS // len(files), _FILE_ROWS))
    keys: set[str] = set()
    kinds: dict[str, set[type]] = {}
    for row in rows:
        _add_keys(row, "", keys)
        for key, value in row.items():
            kinds.setdefault(key, set()).add(type(value))
    types = {key: _guess(key, found - {type(None)}, rows) for key, found in kinds.items()}
    return NdjsonReader(types={**types, **declared}, declared=frozenset(declared), keys=frozenset(keys))


def _first_rows(files: Sequence[DataFile], count: int = _SAMPLE_ROWS) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    size_bytes = 0
    for file, (first_line, lines) in ((each, chunk) for each in files for chunk in reading(each, _chunks(each))):
        rows += [_parse(line, file, first_line + at) for at, line in enumerate(lines[:count])]
        size_bytes += sum(map(len, lines))
        if len(rows) >= count or size_bytes >= _SAMPLE_BYTES:
            break
    return rows


def _guess(key: str, kinds: set[type], rows: list[dict[str, Any]]) -> pl.DataType:
    if kinds in ({dict}, {list}):
        sample = b"\n".join(orjson.dumps({"value": row[key]}) for row in rows if row.get(key) is not None)
        try:
            return _settled(pl.read_ndjson(io.BytesIO(sample), infer_schema_length=None).schema["value"])
        except pl.exceptions.PolarsError:
            return pl.String()
    if kinds == {bool}:
        return pl.Boolean()
    if kinds == {int}:
        return pl.Int64()
    return pl.Float64() if kinds and kinds <= {int, float} else pl.String()


def _settled(dtype: pl.DataType) -> pl.DataType:
    """The type with text where the sample held nothing to tell a type by."""
    if isinstance(dtype, pl.List):
        return pl.List(_settled(cast("pl.DataType", dtype.inner)))
    if isinstance(dtype, pl.Struct) and dtype.fields:
        return pl.Struct({field.name: _settled(cast("pl.DataType", field.dtype)) for field in dtype.fields})
    return pl.String() if isinstance(dtype, pl.Struct | pl.Null | pl.Int128) else dtype


def _chunks(file: DataFile) -> Iterator[tuple[int, list[bytes]]]:
    """The number of the first line, and some megabytes of whole lines."""
    first_line = 1
    with open_bytes(file) as raw:
        rest = b""
        while block := raw.read(_CHUNK_BYTES):
            lines = (rest + block).splitlines(keepends=True)
            if first_line == 1:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            if len(rest) > MAX_LINE_CHARS:
                raise bad_path(f"line {first_line + len(lines)} of {file.path} is longer than {MAX_LINE_CHARS:,} bytes")
            yield first_line, lines
            first_line += len(lines)
        yield first_line, [rest] if rest else []


def _parse(line: bytes, file: DataFile, number: int) -> dict[str, Any]:
    """The object of a line; an empty one for a blank line."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        if not line.strip():
            return {}
        raise _bad_line(file, number, line, f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise _bad_line(file, number, line, "not a JSON object")
    return row


def _bad_line(file: DataFile, number: int, line: bytes, reason: str) -> JobError:
    return bad_path(f"{file.path}, line {number}: {reason}: {line.decode(errors='backslashreplace').strip()[:200]}")


def _add_keys(value: Any, prefix: str, found: set[str]) -> None:
    """Add the paths of all keys; lists do not count as a step."""
    if isinstance(value, dict):
        for key, inner in value.items():
            found.add(prefix + key)
            if isinstance(inner, dict | list):
                _add_keys(inner, f"{prefix}{key}\0", found)
        return
    for inner in value:
        if isinstance(inner, dict | list):
            _add_keys(inner, prefix, found)


def _has_key(line: bytes, key: str) -> bool:
    found: set[str] = set()
    _add_keys(orjson.loads(line) if line.strip() else {}, "", found)
    return key in found
