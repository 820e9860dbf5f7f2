"""YAML: scalars without surprises, exact positions, every mistake with its place."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.config.yaml_source import read_yaml
from batchrun.core.errors import JobError

TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))  # YAML wants the others escaped in its own way
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def problems(text: str) -> list[str]:
    return [str(problem) for problem in read_yaml(text, "job.yaml").problems]


def refusal(text: str) -> str:
    with pytest.raises(JobError) as raised:
        read_yaml(text, "job.yaml")
    return str(raised.value)


@given(JSON)
def test_json_is_read_unchanged(value: object) -> None:
    """A job may be written as JSON: it comes back equal, types included."""
    read = read_yaml(json.dumps(value, ensure_ascii=False), "job.json").value
    assert read == value
    assert json.dumps(read) == json.dumps(value)


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "Off", "y", "010", "0x1F", "0o17", "1_000", "12:30:00", "2026-11-01", ".inf", ".NaN", "="]
)
def test_yaml_1_1_scalars_stay_text(text: str) -> None:
    """Only what JSON has becomes something else than text."""
    assert read_yaml(f"[{text}, {{{text}: 1}}]", "job.yaml").value == [text, {text: 1}]


def test_numbers_booleans_and_nulls_are_read() -> None:
    """The scalars people do expect have their types."""
    value = read_yaml("[1, -2, +3, 0, 1.5, .5, 1e3, 1., True, false, ~, null, '1', \"true\"]", "job.yaml").value
    assert json.dumps(value) == '[1, -2, 3, 0, 1.5, 0.5, 1000.0, 1.0, true, false, null, null, "1", "true"]'


def test_every_key_and_value_has_its_position() -> None:
    """Positions are those of the text, also for values that came through an alias or a merge."""
    text = "a: &x {b: 1}\nc:\n  - *x\n  - <<: *x\n    d: ü\n    e:\n"
    source = read_yaml(text, "dir/job.yaml")
    assert source.value == {"a": {"b": 1}, "c": [{"b": 1}, {"d": "ü", "e": None, "b": 1}]}
    assert source.problems == []
    assert {path: place.removeprefix("dir/job.yaml:") for path, place in source.positions.items()} == {
        (): "1:1",
        ("a",): "1:4",
        ("a", "b"): "1:11",
        ("c",): "3:3",
        ("c", 0): "1:4",
        ("c", 0, "b"): "1:11",
        ("c", 1): "4:5",
        ("c", 1, "d"): "5:8",
        ("c", 1, "e"): "6:7",
        ("c", 1, "b"): "1:11",
    }
    assert source.keys["c", 1, "d"] == "dir/job.yaml:5:5"


def test_keys_of_the_mapping_win_over_merged_ones() -> None:
    """A merge fills in what is missing; of several merged mappings the first one decides."""
    text = "x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}"
    assert read_yaml(text, "job.yaml").value["z"] == {"a": 0, "b": 1, "c": 2}


def test_all_mistakes_of_a_document_are_found_at_once() -> None:
    """Each has its place; a duplicate names the first one, and a bare template gets the advice to quote it."""
    text = "a: 1\na: 2\n3: x\nb: {{ input }}\nc: !!timestamp 2026-11-01\nd: !mine {}\ne: !!int x\nf: &f [*f]\n"
    text = text.replace("f: &f [*f]\n", "f: {<<: 3}\n")
    assert problems(text) == [
        "job.yaml:2:1 a: duplicate key a; it is already at job.yaml:1:1",
        'job.yaml:3:1 a key must be text; quote it: "3"',
        'job.yaml:4:5 b: a key must be text; a template needs quotes: "{{ … }}"',
        "job.yaml:5:4 c: the tag !!timestamp is not allowed",
        "job.yaml:6:4 d: the tag !mine is not allowed",
        "job.yaml:7:4 e: 'x' cannot be read as int",
        "job.yaml:8:9 f: << takes a mapping, or a list of mappings, other than the one it is in",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "job.yaml:1:5 not valid YAML: mapping values are not allowed in this context"),
        ("a: [1", "job.yaml:2:1 not valid YAML: while parsing a flow sequence: did not find expected ',' or ']'"),
        ("a: 1\n---\nb: 2", "job.yaml:2:1 not valid YAML: expected a single document in the stream: but found another document"),
        ("a: *x", "job.yaml:1:4 not valid YAML: found undefined alias"),
        ("a: \x01", "job.yaml not valid YAML: control characters are not allowed"),
        ("a: &a [*a]", "job.yaml:1:4 a[0]: an alias refers to a value that contains it"),
        ("[" * 100_000, "job.yaml:1:101 nested deeper than 100 levels"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_its_place(text: str, message: str) -> None:
    """Broken, endless and absurdly deep documents end as one clear message, never as a crash."""
    assert refusal(text) == message


@pytest.mark.parametrize("link", ["[*{0}, *{0}]", "{{<<: [*{0}, *{0}]}}"])
def test_alias_bombs_are_bounded(link: str) -> None:
    """A few lines of aliases cannot fill the memory or take forever."""
    names = [f"n{number}" for number in range(40)]
    lines = ["n0: &n0 {a: 1}", *(f"{after}: &{after} {link.format(before)}" for before, after in pairwise(names))]
    assert "more than 100,000 values once aliases are written out" in refusal("\n".join(lines))
