"""CSV files as people really write them."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import lzma
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.core.job import CsvFormat, Dataset
from batchrun.datasets import Loaded, open_source


def data_of(loaded: Loaded) -> list[dict[str, Any]]:
    """The data of all items."""
    return [item.data for window in loaded.windows() for item in window]


def zstd(content: bytes) -> bytes:
    """Zstandard, as a file."""
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    ("encoding", "bom"), [("utf-8", ""), ("utf-8", "\ufeff"), ("latin-1", ""), ("utf-16", ""), ("utf-16-le", "\ufeff"), ("cp1252", "")]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_newlines_and_compressions(tmp_path: Path, load: Any, suffix: str, encoding: str, bom: str, newline: str) -> None:
    """The bytes around the cells must never reach the cells."""
    text = bom + newline.join(["name,n,note", 'é,1,"two', 'lines, and ""quotes"""', "", "b,,x", ""])
    (tmp_path / f"t.csv{suffix}").write_bytes(COMPRESS[suffix](text.encode(encoding)))
    rows = data_of(load(f"t.csv{suffix}", csv=CsvFormat(encoding=encoding)))
    assert rows == [{"name": "é", "n": 1, "note": f'two{newline}lines, and "quotes"'}, {"name": "b", "n": None, "note": "x"}]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), min_size=3, max_size=3), max_size=30))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    """Whatever the csv module writes must come back cell by cell, quoted newlines and null bytes included."""
    folder = tmp_path_factory.mktemp("csv")
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
    (folder / "t.csv").write_text(buffer.getvalue(), encoding="utf-8", newline="")
    dataset = Dataset(path="t.csv", schema=dict.fromkeys("abc", "string"), csv=CsvFormat(null_values=()))
    loaded = open_source(dataset, folder).load(["a", "b", "c"], [], spool=folder / "_s", rejects=folder / "_r")
    assert [list(row.values()) for row in data_of(loaded)] == rows


def test_the_format_options(tmp_path: Path, load: Any) -> None:
    """Delimiter, quotes, header and null texts are the job's to say."""
    (tmp_path / "t.csv").write_text("'a;b';NA;1\nc;-;2\n")
    form = CsvFormat(delimiter=";", quote="'", header=False, null_values=("NA", "-"))
    assert data_of(load("t.csv", csv=form)) == [
        {"column_0": "a;b", "column_1": None, "column_2": 1},
        {"column_0": "c", "column_1": None, "column_2": 2},
    ]
    (tmp_path / "t.csv").write_text('x|""y"\n')
    assert data_of(load("t.csv", csv=CsvFormat(delimiter="|", quote=None, header=False))) == [{"column_0": "x", "column_1": '""y"'}]


def test_guessed_types_lose_nothing(tmp_path: Path, load: Any) -> None:
    """A number is only a number when it can be written back as it was."""
    columns = {
        "int": ("1", "-20"), "float": ("1", "2.5e3"), "flag": ("true", "FALSE"), "zip": ("01234", "99999"), "phone": ("+4179", "1"),
        "card": ("12345678901234567890", "1"), "long": ("1.5", "12345678901234567"), "day": ("2026-01-01", "2026-01-02"), "none": ("", ""),
    }  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join([",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]))
    loaded = load("t.csv")
    kinds = {field.name: str(field.type) for field in loaded.source_schema}
    assert kinds == dict.fromkeys(columns, "string") | {"int": "int64", "float": "double", "flag": "bool"}
    assert data_of(loaded)[0]["zip"] == "01234" and data_of(loaded)[0]["none"] is None


def test_declared_types_are_how_cells_are_read(tmp_path: Path, load: Any) -> None:
    """Each type name of dataset.schema has one text form, or a few."""
    cells = {
        "date": ("2026-01-31", dt.date(2026, 1, 31)), "datetime": ("2026-01-31T10:00", dt.datetime(2026, 1, 31, 10)),
        "timestamp": ("2026-01-31 10:00:00.25", dt.datetime(2026, 1, 31, 10, 0, 0, 250000)), "time": ("10:30", dt.time(10, 30)),
        "decimal(5,2)": ("1.50", Decimal("1.50")), "bool": ("True", True), "uint8": ("255", 255),
        "float32": ("0.5", 0.5), "string": ("1", "1"),
        "timestamp_utc": ("2026-01-31T10:00:00+02:00", dt.datetime(2026, 1, 31, 8, tzinfo=dt.UTC)),
    }  # fmt: skip
    (tmp_path / "t.csv").write_text(f"{'|'.join(cells)}\n{'|'.join(text for text, _ in cells.values())}\n")
    [row] = data_of(load("t.csv", csv=CsvFormat(delimiter="|"), schema={name: name for name in cells}))
    assert row == {name: value for name, (_, value) in cells.items()}


BAD = b'id,age,note\n1,10,"a\nb"\n2,x,c\n3,30\n\n4,40,d,e\n5,50,\xff\n6,60,"f" g\n7,70,h\n'


def test_bad_rows_are_refused_with_line_numbers(tmp_path: Path, refusal: Any) -> None:
    """People look for the line in an editor: quoted newlines, blank lines and the header count."""
    (tmp_path / "t.csv").write_bytes(BAD)
    assert refusal("t.csv", schema={"age": "int64"}).splitlines() == [
        "dataset.path: 5 rows do not parse; correct them, or set dataset.on_bad_rows: reject to write them to a file and go on",
        '  t.csv, line 4: column "age" is declared as int64, got "x": 2,x,c',
        "  t.csv, line 5: 2 cells instead of 3: 3,30",
        "  t.csv, line 7: 4 cells instead of 3: 4,40,d,e",
        "  t.csv, line 8: bytes that are not utf-8: 5,50,\\xff",
        "  t.csv, line 9: not CSV: ',' expected after '\"': 6,60,\"f\" g",
    ]


def test_bad_rows_can_be_set_aside(tmp_path: Path, load: Any) -> None:
    """The good rows go on, the bad ones are kept with their reasons; without bad rows there is no file."""
    (tmp_path / "t.csv").write_bytes(BAD)
    loaded = load("t.csv", on_bad_rows="reject", schema={"age": "int64"})
    assert [(row["id"], row["age"], row["note"]) for row in data_of(loaded)] == [(1, 10, "a\nb"), (7, 70, "h")]
    rejected = pq.read_table(tmp_path / "_rejects.parquet")
    assert loaded.rejected_rows == rejected.num_rows == 5
    assert sorted(rejected["line_number"].to_pylist()) == [4, 5, 7, 8, 9]
    (tmp_path / "_rejects.parquet").unlink()
    (tmp_path / "u.csv").write_text("id\n1\n")
    assert load("u.csv", on_bad_rows="reject").rejected_rows == 0
    assert not (tmp_path / "_rejects.parquet").exists()


def test_a_late_cell_of_another_type_is_not_a_surprise(tmp_path: Path, load: Any, refusal: Any) -> None:
    """A column guessed from the first rows must not turn a later cell into null."""
    (tmp_path / "t.csv").write_text("code\n" + "1\n" * 60_000 + "A7\n")
    message = refusal("t.csv")
    assert "line 60002" in message and "set dataset.schema: {code: string}" in message
    assert load("t.csv", schema={"code": "string"}).total_items == 60_001


@pytest.mark.parametrize("cell", [" 5", "\t5", "5 ", "+ 5", "5,0", "0x5", "99999999999999999999", '" 5"', "5\0"])
@pytest.mark.parametrize("text", ["x", "  x", "\tx"])
@pytest.mark.parametrize("delimiter", [";", "\t", " "])
def test_what_is_no_number_stays_none(tmp_path: Path, refusal: Any, cell: str, text: str, delimiter: str) -> None:
    """Readers of CSV files are generous with blanks; a cell must be a number or none in every stretch of a file alike."""
    if delimiter in cell + text:
        cell, text = "five", "x"
    rows = [f"{at}{delimiter}{text}" for at in range(60_000)]
    (tmp_path / "t.csv").write_text("\n".join([f"n{delimiter}text", *rows, f"{cell}{delimiter}{text}", ""]))
    shown = cell.strip('"')
    assert f'line 60002: column "n" looked like int64 at first, got "{shown}"' in refusal("t.csv", csv=CsvFormat(delimiter=delimiter))


def test_numbers_are_those_of_their_texts(tmp_path: Path, load: Any) -> None:
    """Numbers that are read at once must be, to the last bit, what Python makes of the same digits; nothing is null, and nothing else."""
    floats = [0.1, 1e-320, 1.7976931348623157e308, -2.5e-5, 123456789.123456789, 5e22, float("inf")]
    ints = [0, -1, 2**63 - 1, -(2**63), 7, 10**18, 42]
    lines = "".join(f"{whole},  {whole},{real!r},\n" for whole, real in zip(ints, floats, strict=True))
    (tmp_path / "t.csv").write_text("whole,text,real,none\n" + "1, a,0.5,\n" * 60_000 + lines)
    rows = data_of(load("t.csv", schema={"none": "float64"}))[60_000:]
    assert [(row["whole"], row["text"], row["real"], row["none"]) for row in rows] == [
        (whole, f"  {whole}", real, None) for whole, real in zip(ints, floats, strict=True)
    ]


@pytest.mark.parametrize(("encoding", "bad", "shown"), [("ascii", b"\xc3\xa9", "\\xc3\\xa9"), ("utf-16-le", b"\x00\xd8", "\\x00\\xd8")])
def test_bytes_of_no_character_are_shown_in_any_encoding(tmp_path: Path, refusal: Any, encoding: str, bad: bytes, shown: str) -> None:
    """The reader works on UTF-8; what people see of a damaged cell are the bytes of their file, and the cells around it are not touched."""
    start, end = ("é,b\n1,2\n3," if encoding != "ascii" else "a,b\n1,2\n3,").encode(encoding), "\n5,6\n".encode(encoding)
    (tmp_path / "t.csv").write_bytes(start + bad + end)
    assert f"t.csv, line 3: bytes that are not {encoding}: 3,{shown}" in refusal("t.csv", csv=CsvFormat(encoding=encoding))


def test_a_limit_stops_reading(tmp_path: Path, load: Any) -> None:
    """Trying ten rows of a large file must not read all of it, so it cannot fail on what comes later."""
    (tmp_path / "a.csv").write_text("a\n" + "1\n" * 100_000 + "1,2\n")
    (tmp_path / "b.csv").write_text("a\n1,2,3\n")
    assert load("*.csv", limit=10).total_items == 10
    assert load("*.csv", limit=0).total_items == 0


def test_an_open_quote_cannot_swallow_the_file(tmp_path: Path, refusal: Any) -> None:
    """The classic: everything after a stray quote becomes one cell. It must be named by the line where it starts."""
    (tmp_path / "t.csv").write_text('a,b\n1,2\n3,"4\n' + "5,6\n" * 1000)
    message = refusal("t.csv")
    assert "1 rows do not parse" in message and "t.csv, line 3: not CSV: unexpected end of data" in message
    (tmp_path / "t.csv").write_text("a,b\n1,2\n" + "x" * (16 * 2**20))
    assert "line 3 of " in refusal("t.csv") and "is longer than 16,777,216 characters" in refusal("t.csv")


def test_headers_must_agree_and_make_sense(tmp_path: Path, load: Any, refusal: Any) -> None:
    """Columns are known before the first row: no duplicates, the same in all files, in the right encoding."""
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("a,c\n1,2\n")
    assert "do not have the same header: a.csv has ['a', 'b'], b.csv has ['a', 'c']" in refusal("*.csv")
    (tmp_path / "b.csv").write_text("a,a\n1,2\n")
    assert "more than once: a" in refusal("b.csv")
    (tmp_path / "b.csv").write_bytes("é,b\n".encode("utf-16"))
    assert "is not utf-8; set dataset.csv.encoding" in refusal("b.csv")
    assert refusal("b.csv", csv=CsvFormat(encoding="utf-99")).startswith("dataset.csv.encoding: unknown encoding: utf-99")
    (tmp_path / "b.csv").write_text("\n\n")
    assert "has no header line" in refusal("b.csv")
    (tmp_path / "b.csv").write_text("a,b\n")
    assert load("b.csv").total_items == 0 and list(load("b.csv").windows()) == []


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_a_cut_off_archive_is_refused(tmp_path: Path, refusal: Any, suffix: str) -> None:
    """Half an archive must not pass for a short file."""
    content = COMPRESS[suffix](b"a\n" + b"".join(b"%d\n" % (at * 7919 % 100_003) for at in range(300_000)))
    (tmp_path / f"t.csv{suffix}").write_bytes(content[: len(content) // 2])
    assert f"t.csv{suffix} cannot be read" in refusal(f"t.csv{suffix}")


WRITTEN = st.lists(st.sampled_from(['"', '""', "a", "é", "\udcff", ",", ",,", "\n", "\r\n", "\r", " ", "1", '"x,\ny"', "\0"]), max_size=30)


@settings(max_examples=40, deadline=None)
@given(st.lists(WRITTEN.map("".join), min_size=1, max_size=3), st.integers(1, 3), st.sampled_from(['"', None]))
def test_rows_are_those_of_the_csv_module_however_they_are_written(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], columns: int, quote: str | None
) -> None:
    """Plain stretches are read in a faster way, on which neither the good rows nor the reasons and lines of the others may depend."""
    folder = tmp_path_factory.mktemp("csv")
    header = ",".join("abc"[:columns]) + "\n"
    count = 35_000 // columns  # longer than the first stretch
    filler = (",".join("xyz"[:columns]) + "\n") * count
    form = CsvFormat(quote=quote, null_values=())
    dataset = Dataset(path="t.csv", schema=dict.fromkeys("abc"[:columns], "string"), csv=form, on_bad_rows="reject")

    def outcome(text: str) -> tuple[list[Any], list[Any]]:
        (folder / "t.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
        (folder / "_r").unlink(missing_ok=True)
        source = open_source(dataset, folder)
        loaded = source.load(list(source.columns), [], spool=folder / "_s", rejects=folder / "_r")
        rejected = pq.read_table(folder / "_r").to_pylist() if loaded.rejected_rows else []
        return data_of(loaded), [(row["line_number"], row["raw"], row["reason"]) for row in rejected]

    body = "\n".join(texts)
    assert outcome(header + body) == by_the_module(body, columns, quote)
    plain, rejected = outcome(header + filler + body)
    good, bad = by_the_module(body, columns, quote)
    assert plain[count:] == good
    assert rejected == [(line + count, raw, reason) for line, raw, reason in bad]


def test_rows_of_a_large_file_are_those_of_a_small_one(tmp_path: Path, load: Any) -> None:
    """What is read ahead in threads comes in the order of the file, and so do the rows set aside, with their lines."""
    count = 400_000
    bad = {5: "5,few", 150_000: '150000,"a\nb",x', 150_001: "x,y,z", 399_999: "399999"}
    lines = (bad.get(at) or f"{at},some words {at},{at % 7}" for at in range(count))
    (tmp_path / "t.csv").write_text("id,text,day\n" + "\n".join(lines))
    loaded = load("t.csv", on_bad_rows="reject", schema={"id": "int64", "day": "int64"})
    good = [at for at in range(count) if at not in bad]
    assert [row["id"] for row in data_of(loaded)] == good
    assert [item.item_index for window in loaded.windows() for item in window] == list(range(len(good)))
    rejected = pq.read_table(tmp_path / "_rejects.parquet").to_pylist()
    assert [row["line_number"] for row in rejected] == [7, 150_002, 150_004, 400_002]


def by_the_module(body: str, columns: int, quote: str | None) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    """The good rows, and line, text and reason of the others, read record by record. The header is line 1."""
    lines = io.StringIO(body, newline="").readlines()
    quoting: Any = csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL
    reader = csv.reader(iter(lines), quotechar=quote, quoting=quoting, strict=True)
    good, bad, start = [], [], 0
    while start < len(lines):
        reason, cells = "", list[str]()
        try:
            cells = next(reader)
        except csv.Error as error:
            reason = f"not CSV: {error}"
        raw = "".join(lines[start : reader.line_num])
        if not reason and any("\udc00" <= char <= "\udcff" for char in raw):
            reason = "bytes that are not utf-8"
        if not reason and cells and len(cells) != columns:
            reason = f"{len(cells)} cells instead of {columns}"
        if reason:
            bad.append((2 + start, raw.rstrip("\r\n").replace("\udcff", "\\xff"), reason))
        elif cells:
            good.append(dict(zip("abc", cells, strict=False)))
        start = reader.line_num
    return good, bad
