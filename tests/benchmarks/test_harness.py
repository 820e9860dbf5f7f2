from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import Settings, measure, measure_case
from benchmarks.model import BenchmarkError, Case, Variant

WORKS = "tests.benchmarks.works"


@contextmanager
def files(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    del folder, items
    yield {}


def case(*variants: Variant, **about: Any) -> Case:
    return Case(
        group="case",
        name="case",
        about="made up",
        baseline=variants[0].name,
        variants=variants,
        files=files,
        items=100,
        quick_items=10,
        **about,
    )


def noted(log: Path, name: str, **about: Any) -> Variant:
    return Variant(name=name, call=f"{WORKS}:noted", arguments={"log": str(log), "name": name}, **about)


def test_variants_take_turns_and_each_measurement_is_a_process_of_its_own(tmp_path: Path) -> None:
    """The speed of a shared machine drifts: only what was measured close together can be compared."""
    log = tmp_path / "log"
    result = measure_case(case(noted(log, "a"), noted(log, "b")), Settings(rounds=2))
    assert log.read_text().splitlines() == [f"{name} {does}" for name in "abab" for does in ("is ready", "works")]
    assert [list(each) for each in result.rounds] == [["a", "b"]] * 2
    measured = result.rounds[0]["a"]
    assert (measured.items, measured.fixed_seconds, measured.facts) == (100, 0.25, {"size": 7.0})
    assert 100 < measured.start_seconds < 160
    assert measured.seconds > 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (Settings(rounds=1), {"all": 100, "half": 50, "sized": 3_000}),
        (Settings(rounds=1, is_quick=True), {"all": 10, "half": 5, "sized": 300}),
        (Settings(rounds=1, is_full=True), {"all": 100, "half": 50, "sized": 3_000, "huge": 9_000}),
        (Settings(rounds=1, items={"": 8, "other": 9}), {"all": 8, "half": 4, "sized": 3_000}),
        (Settings(rounds=1, items={"": 8, "case": 6}, is_quick=True), {"all": 6, "half": 3, "sized": 300}),
    ],
)
def test_each_variant_is_given_its_number_of_items(tmp_path: Path, settings: Settings, expected: dict[str, int]) -> None:
    """Slow tools get a part of the items, and --quick, --full and --items mean what they say."""
    log = tmp_path / "log"
    variants = (
        noted(log, "all"),
        noted(log, "half", share=0.5),
        noted(log, "sized", items=3_000),
        noted(log, "huge", items=9_000, is_for_full=True),
    )
    (measured,) = measure_case(case(*variants), settings).rounds
    assert {name: each.items for name, each in measured.items()} == expected


@pytest.mark.parametrize(("name", "said"), [("lazy", "did 99 of 100 items"), ("broken", "nothing is as it should be")])
def test_work_that_fails_is_never_taken_for_fast(name: str, said: str) -> None:
    """A measurement of work that was not done would be the best one of all."""
    with pytest.raises(BenchmarkError, match=said):
        measure_case(case(Variant(name="it", call=f"{WORKS}:{name}")), Settings(rounds=1))


def test_other_tools_that_fail_or_are_missing_are_reported(tmp_path: Path) -> None:
    """A tool that is silently left out looks like one that was beaten."""
    tools = [Variant(name=peer, call=f"{WORKS}:broken", peer=peer) for peer in ("fails", "missing", "unasked")]
    settings = Settings(rounds=2, interpreters={"fails": Path(sys.executable)}, missing={"missing": "cannot be installed: why"})
    result = measure_case(case(noted(tmp_path / "log", "a"), *tools), settings)
    assert [list(each) for each in result.rounds] == [["a"], ["a"]]
    assert result.unmeasured.keys() == {"fails", "missing"}
    assert "nothing is as it should be" in result.unmeasured["fails"]
    assert result.unmeasured["missing"] == "cannot be installed: why"


def test_an_ideal_time_is_a_variant_of_its_own(tmp_path: Path) -> None:
    """Waiting cannot be done faster than the clock allows; that is what it is compared with."""
    result = measure_case(case(noted(tmp_path / "log", "a"), ideal_seconds=lambda items: items * 0.5), Settings(rounds=1))
    assert result.rounds[0]["ideal"].micros == pytest.approx(500_000)


def test_the_peak_of_memory_is_seen_though_it_was_given_back(tmp_path: Path) -> None:
    """The peak decides whether a job fits a machine, and it may last a moment."""
    small = measure(f"{WORKS}:elsewhere", {"items": 1, "folder": str(tmp_path), "then": ""})
    large = measure(f"{WORKS}:large", {"items": 1, "folder": str(tmp_path)})
    assert small.peak_mib < 150
    assert large.peak_mib > 300


@pytest.mark.parametrize("then", ["", "input()", "ignored"])
def test_the_cpu_time_of_other_processes_counts(tmp_path: Path, then: str) -> None:
    """Tools that work in processes, whether these have ended or not, would seem to need no time at all."""
    measured = measure(f"{WORKS}:elsewhere", {"items": 1, "folder": str(tmp_path), "then": then})
    assert measured.cpu_seconds > (0.05 if then != "ignored" else 0.5)
