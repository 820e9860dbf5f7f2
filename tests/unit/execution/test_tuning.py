"""What may change while items run, and what may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.config import effective_job, load_job
from batchrun.core.errors import JobError
from batchrun.core.job import Job, Resource, Run
from batchrun.execution.tuning import Tuning, shown, tuning

PATHS = (
    "run.parallelism",
    "parallelism",
    "resources.api.max_concurrency",
    "resources.api.requests_per_minute",
    "resources.api",
    "resources",
    "run",
    "run.max_open_items",
    "name",
    "",
)
LIMITS = ("max_concurrency", "requests_per_minute", "tokens_per_minute")


_BOTH = {"api": {"max_concurrency": 9}, "other": {"max_concurrency": 1}}


def job(**run: Any) -> dict[str, Any]:
    """The effective job of an execution."""
    resources = {"api": Resource(base_url="http://a", max_concurrency=8), "other": Resource(base_url="http://b")}
    return effective_job(load_job(Job(dataset="data.csv", workflow="steps:tidy", resources=resources, run=Run(**run))))


def asked(settings: Mapping[str, Any] | Sequence[str], **run: Any) -> Tuning:
    return tuning(job(**run), Path(), settings)


@pytest.mark.parametrize("form", [dict, lambda settings: [f"{path}={value or 'null'}" for path, value in settings.items()]])
@pytest.mark.parametrize(
    ("settings", "parallelism", "limits"),
    [
        ({"run.parallelism": 3}, 3, {}),
        ({"parallelism": 3}, 3, {}),
        ({"run.parallelism": 16}, None, {}),
        ({"resources.api.max_concurrency": 3}, None, {"api": {"max_concurrency": 3}}),
        ({"resources.api.max_concurrency": None}, None, {"api": {"max_concurrency": None}}),
        ({"resources.other.max_concurrency": None}, None, {}),
        ({"resources.other.max_concurrency": 1, "resources.api.max_concurrency": 9, "run.parallelism": 64}, 64, _BOTH),
        ({"resources.api.requests_per_minute": 90.5}, None, {"api": {"requests_per_minute": 90.5}}),
    ],
)
def test_limits_change_in_either_form(form: Any, settings: dict[str, Any], parallelism: int | None, limits: Any) -> None:
    """Only what is different is done, and the job that is remembered differs in nothing else."""
    change = asked(form(settings))
    assert (change.parallelism, change.resources) == (parallelism, limits)
    expected = job()
    expected["run"]["parallelism"] = parallelism or 16
    for name, changed in limits.items():
        expected["resources"][name] |= changed
    assert change.job == expected


def test_one_setting_need_not_be_in_a_list() -> None:
    """A text is not a list of letters."""
    assert asked("run.parallelism=3").parallelism == 3
    assert (shown("run.parallelism=3"), shown(["a=1", "b=2"]), shown({"a": 1, "b": None})) == (
        "run.parallelism=3",
        "a=1, b=2",
        "a=1, b=null",
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"run.parallelism": 0}, "run.parallelism: must be ≥ 1, got 0"),
        ({"run.parallelism": "many"}, "run.parallelism"),
        ({"run.parallelism": 2.5}, "run.parallelism"),
        (["run.parallelism=99999999999999999999"], "run.parallelism: must be a whole number from -2^63 to 2^64 - 1"),
        ({"run.parallelism": 33}, "run.max_open_items: must be ≥ parallelism (33), got 32"),
        ({"resources.api.max_concurrency": 0}, "resources.api.max_concurrency: must be ≥ 1, got 0"),
        ({"resources.api.max_concurency": 3}, "max_concurency"),
        ({"resources.apo.max_concurrency": 3}, 'unknown resource "apo"; did you mean "api"?'),
        (["run.parallelism"], "give it as path=value"),
        (["run.parallelism=["], "run.parallelism"),
        ([""], "give it as path=value"),
        ({"run.parallelism": reduce(lambda inner, _: [inner], range(900), [])}, "[[[[…: the value is nested too deeply"),
    ],
)
def test_values_are_refused_like_those_of_a_job_file(settings: Any, said: str) -> None:
    """A slip is told with its place and the reason, before anything changes."""
    with pytest.raises(JobError) as refused:
        asked(settings, max_open_items=32)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"run.grace_seconds": 1},
        {"run.parallelism": 3, "run.timeout_seconds": 5},
        {"resources.api.base_url": "http://elsewhere"},
        {"resources.api": {"base_url": "http://elsewhere", "max_concurrency": 3}},
        {"resources.new": {"base_url": "http://new", "max_concurrency": 3}},
        {"resources": None},
        {"workflow.nodes.tidy.call": "steps:other"},
        {"workflow.nodes.tidy.timeout_seconds": 1},
        {"dataset.limit": 3},
        {"output.keep": ["size"]},
        {"name": "other"},
        {"vars.a": 1},
    ],
)
def test_nothing_else_changes_while_items_run(settings: dict[str, Any]) -> None:
    """What the rows so far were made with stays true for all of them; the way to change it is named."""
    with pytest.raises(JobError) as refused:
        asked(settings)
    assert shown(settings) in str(refused.value)
    tunable = "run.parallelism and, under resources.NAME, max_concurrency, requests_per_minute and tokens_per_minute"
    assert f"only {tunable} can change; pause, and set others with batchrun resume" in str(refused.value)


def test_setting_a_field_to_what_it_is_changes_nothing() -> None:
    """A whole section may be given as it is."""
    change = asked({"run": {"parallelism": 4}, "resources.api": {"base_url": "http://a", "max_concurrency": 4}, "dataset.path": "data.csv"})
    assert (change.parallelism, change.resources) == (4, {"api": {"max_concurrency": 4}})


def test_a_job_made_in_python_can_be_tuned() -> None:
    """A function that cannot be imported by its name does not matter to the limits of its execution."""
    made = effective_job(load_job(Job(dataset="data.csv", workflow=lambda item: item)))
    assert tuning(made, Path(), {"run.parallelism": 3}).parallelism == 3


@given(
    st.dictionaries(
        st.sampled_from(PATHS) | st.text(),
        st.none()
        | st.integers()
        | st.floats()
        | st.text()
        | st.recursive(st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
    )
    | st.lists(st.builds("{}={}".format, st.sampled_from(PATHS), st.text() | st.integers()) | st.text())
)
def test_whatever_is_asked_is_done_or_refused(settings: Any) -> None:
    """A request that a program made up cannot end the execution it was sent to, nor change what must stay."""
    try:
        change = asked(settings)
    except JobError:
        return
    before = job()
    after = {**change.job, "run": {**change.job["run"], "parallelism": 16}}
    after["resources"] = {
        name: {
            **resource,
            **{limit: before["resources"][name][limit] for limit in LIMITS},
        }
        for name, resource in change.job["resources"].items()
    }
    assert after == before
