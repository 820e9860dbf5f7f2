"""What is compared does the same work."""

from __future__ import annotations

import ast
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import loops
from benchmarks.cases import GROUPS, asynchronous, batching, cases, dispatch, reading
from benchmarks.environments import REQUIREMENTS
from benchmarks.functions import clean, label, score
from benchmarks.harness import ROOT
from benchmarks.jobs import make_dataset
from benchmarks.model import Case, Variant
from benchmarks.peers import first_rows, right_rows

VARIANTS = [pytest.param(variant, id=f"{case.name}: {variant.name}") for case in cases() for variant in case.variants]
TIMES = ("started_at", "completed_at", "duration_ms")


def without_times(table: pa.Table) -> list[dict[str, Any]]:
    rows = table.drop(list(TIMES)).to_pylist()
    for row in rows:
        for node in row["node_executions"]:
            del node["started_at"], node["duration_ms"]
    return rows


def encodings(path: Path) -> list[tuple[Any, ...]]:
    """How each column is written: what costs time, and what could be saved by writing less well."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    return [(each.path_in_schema, each.compression, sorted(each.encodings), each.is_stats_set) for each in columns]


def commands() -> Iterator[str]:
    """Of all processes that run."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            yield path.read_text(errors="replace")


@pytest.mark.parametrize(
    ("loop", "job"),
    [
        (dispatch.loop, dispatch.job),
        (asynchronous.loop, asynchronous.job),
        (batching.loop, lambda **given: batching.job(**given, is_batched=True)),
    ],
    ids=["sync", "async", "in batches"],
)
def test_the_hand_written_loop_writes_the_table_that_batchrun_writes(
    tmp_path: Path, loop: Callable[..., Any], job: Callable[..., Any]
) -> None:
    """A limit that does less than batchrun would be no limit, and one that does more would flatter it."""
    given = {"dataset": str(make_dataset(tmp_path / "items.parquet", 150)), "items": 150, "folder": str(tmp_path)}
    (by_hand, _), (work, _) = loop(**given), job(**given)
    before = set(tmp_path.rglob("results.parquet"))
    assert work()[0] == by_hand()[0] == 150
    (result,) = set(tmp_path.rglob("results.parquet")) - before
    ours, theirs = pq.read_table(result), pq.read_table(tmp_path / "rows.parquet")
    assert ours.schema.equals(theirs.schema)
    assert without_times(ours) == without_times(theirs)
    assert encodings(result) == encodings(tmp_path / "rows.parquet")


def test_reading_delivers_the_rows_that_polars_delivers(tmp_path: Path) -> None:
    """Both sides count what they read; the count must be able to be wrong."""
    with reading.files(tmp_path, 1_003) as given:
        for kind in ("parquet", "csv"):
            work, _ = reading.by_polars(**given, items=1_003, folder=str(tmp_path), kind=kind)
            assert work() == 1_003
            for into in ("batches", "items"):
                folder = tmp_path / f"{kind}-{into}"
                folder.mkdir()
                work, _ = reading.by_batchrun(**given, items=1_003, folder=str(folder), kind=kind, into=into)
                assert work() == 1_003
        work, _ = reading.by_polars(str(tmp_path / "items"), 2_000, str(tmp_path), "parquet")
        assert work() != 2_000


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_can_be_called(variant: Variant) -> None:
    """A measurement of an hour must not end at a name that does not exist."""
    module, _, name = variant.call.partition(":")
    if variant.peer is None:
        parameters = inspect.signature(getattr(import_module(module), name)).parameters
        assert {"items", "folder", *variant.arguments} <= parameters.keys()
    else:  # its library is in an environment of its own
        assert variant.peer in REQUIREMENTS
        tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert "batchrun" not in {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_every_case_does_its_work(tmp_path: Path, case: Case) -> None:
    """Names of the package change; a case that broke would be found when somebody needs its figures."""
    items = 1 if case.group == "starting" else 20
    with case.files(tmp_path, items) as given:
        for variant in case.variants:
            if variant.peer is None:
                module, _, name = variant.call.partition(":")
                folder = tmp_path / f"of {variant.name.replace('/', ' ')}"
                folder.mkdir()
                ready = getattr(import_module(module), name)(**given, **variant.arguments, items=items, folder=str(folder))
                done = ready[0]() if isinstance(ready, tuple) else ready()
                assert (done[0] if isinstance(done, tuple) else done) == items, variant.name


def test_cases_have_names_of_their_own_and_aims_of_their_variants() -> None:
    """Names are how tables find their place, and an aim at a misspelt variant would never be missed."""
    found = cases()
    assert len({case.name for case in found}) == len(found)
    assert {case.group for case in found} == set(GROUPS)
    for case in found:
        names = {variant.name for variant in case.variants} | ({"ideal"} if case.ideal_seconds else set())
        assert case.baseline in names
        assert {aim.variant for aim in case.aims} | {aim.against for aim in case.aims if aim.against} <= names


def test_every_case_has_its_place_in_the_docs() -> None:
    """`--write-docs` puts tables where there are marks, and only there."""
    page = (ROOT / "docs/performance.md").read_text()
    assert [case.name for case in cases() if page.count(f"<!-- benchmark: {case.name} -->") != 1] == []


def test_the_command_measures_and_writes_what_was_asked_for(tmp_path: Path) -> None:
    """One command makes the table, the JSON, the picture and the docs, from real runs."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- benchmark: dispatch -->\nold\n<!-- end -->\nafter\n")
    words = ["--quick", "--only", "dispatch,resuming", "--items", "dispatch=300,resuming=600"]
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.svg"), f"--write-docs={page}"]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out.json").read_text())
    assert [case["case"] for case in written["cases"]] == ["dispatch", "resume"]
    medians = {median["variant"]: median for median in written["cases"][0]["medians"]}
    assert medians["batchrun"]["is_rough"]
    assert medians["batchrun"]["ratio"] is None
    assert medians["batchrun"]["items"] == 300
    assert medians["batchrun"]["cpu_micros"] > 0 < medians["batchrun"]["peak_mib"]
    assert {"cpu", "cores", "python", "versions", "load_average"} <= written["machine"].keys()
    assert written["machine"]["command"] == f"python -m benchmarks {' '.join(words)}"
    assert "batchrun resume" in done.stdout
    assert "</svg>" in (tmp_path / "out.svg").read_text()
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "| loop " in text
    assert "old" not in text
    assert "has no place for resume" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "dispach"], "'dispach' is none of dispatch, asynchronous,"),
        (["--peers", "spark"], "'spark' is none of daft,"),
        (["--items", "many"], "must be a number, or CASE=NUMBER"),
        (["--rounds", "0"], "must be a whole number from 1 on, got '0'"),
        (["--quick", "--check"], "too few items"),
        (["--json", "nowhere/out.json"], "nowhere/out.json cannot be written: there is no folder nowhere"),
        (["--write-docs", "nowhere.md"], "nowhere.md cannot be written"),
    ],
)
def test_a_mistake_in_the_command_is_told_before_anything_is_measured(words: Sequence[str], said: str) -> None:
    """Measuring takes long."""
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_was_measured_outlives_an_interruption(number: signal.Signals, tmp_path: Path) -> None:
    """An hour of measurements must not be lost to a key, and nothing may go on running."""
    words = ["--quick", "--only", "durability,waiting", "--items", "durability=100,waiting=1000000", "--json", str(tmp_path / "out.json")]
    said = tmp_path / "said.txt"
    with said.open("wb") as file:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, env=environment, stdout=file, stderr=file)
        while "waiting, 50 at a time, round 1 of 1: loop" not in said.read_text():
            assert process.poll() is None, said.read_text()
            time.sleep(0.05)
    process.send_signal(number)
    process.wait()
    while any(str(tmp_path) in command for command in commands()):
        time.sleep(0.05)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted: 1 cases were measured" in said.read_text()
    assert [case["case"] for case in json.loads((tmp_path / "out.json").read_text())["cases"]] == ["durability"]


def test_outputs_of_other_tools_are_checked_row_by_row(tmp_path: Path) -> None:
    """A tool that computes nothing, or something else, would be the fastest of all."""
    source = make_dataset(tmp_path / "items.parquet", 30)
    rows = [label(score(**clean(body))["score"]) for body in pq.read_table(source)["body"].to_pylist()]
    given: dict[str, list[Any]] = {"id": list(range(30)), "output": rows}
    wrong = {"id": given["id"], "output": [*rows[:29], {"label": "none", "score": 0.0}]}
    twice = {"id": [*given["id"], 0], "output": [*rows, rows[0]]}
    flat = {"id": given["id"], "label": [row["label"] for row in rows], "score": [row["score"] for row in rows]}
    for name, columns, expected in [("right", given, 30), ("wrong", wrong, 29), ("twice", twice, 0), ("flat", flat, 30)]:
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / "rows.parquet")
        assert right_rows(source, tmp_path / name, 30) == expected, name


def test_other_tools_read_a_file_of_the_items_they_are_given(tmp_path: Path) -> None:
    """A tool that reads a whole file for ten of its rows has that taken off as if it were paid once."""
    source = make_dataset(tmp_path / "items.parquet", 250_000)
    few = pq.ParquetFile(first_rows(str(source), 120_000, tmp_path / "few.parquet"))
    assert [few.metadata.row_group(at).num_rows for at in range(few.num_row_groups)] == [100_000, 20_000]
    assert few.read().equals(pq.read_table(source).slice(0, 120_000))


def test_loops_and_batchrun_share_the_columns() -> None:
    """A column that the result gets one day must not be missing from the limit."""
    assert loops.result_schema("clean").names[-1] == "priority"
    assert loops.result_schema("weigh", output_type="float64").field("output").type == pa.float64()
