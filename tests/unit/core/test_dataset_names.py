"""Names of datasets, versions and tags as people type them."""

from __future__ import annotations

import pytest

from batchrun.core.dataset_names import BadName, check_name, check_tag, short_reference, split_reference


def test_names_and_tags_that_could_mean_something_else_are_refused() -> None:
    """No name leads out of the folder, hides, or holds a version; no tag looks like a number, a date or a file."""
    for name in ("", ".hidden", "../up", "a/b", "a b", "a@1", "-x", "ä", "x" * 101, "a\n"):
        with pytest.raises(BadName, match="cannot name a dataset"):
            check_name(name)
    for tag in ("", "3", "2026-11-01", "7d", "a.b", "a b", "a@b", "x" * 101):
        with pytest.raises(BadName, match="cannot be a tag"):
            check_tag(tag)
    with pytest.raises(BadName, match="made last"):
        check_tag("latest")
    assert [check_name(name) for name in ("tickets", "tickets-2026.q4", "_x", "7")] and check_tag("gold_2") == "gold_2"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("tickets@3", ("tickets", "3")),
        ("tickets@latest", ("tickets", "latest")),
        ("a.b-c@2026-11-01", ("a.b-c", "2026-11-01")),
        ("tickets", None),
        ("./tickets@3", None),
        ("data/tickets@3", None),
        ("tickets@3.csv", None),
        ("s3://bucket@x", None),
    ],
)
def test_a_path_is_not_taken_for_a_name(text: str, meant: tuple[str, str] | None) -> None:
    """Where both may stand, what has a slash or a suffix is a path."""
    assert short_reference(text) == meant


def test_a_reference_without_a_version_is_the_latest() -> None:
    """The same text means the same dataset everywhere."""
    assert (split_reference("tickets"), split_reference("tickets@gold")) == (("tickets", "latest"), ("tickets", "gold"))
