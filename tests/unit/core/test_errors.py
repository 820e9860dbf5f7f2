"""Messages people read when something is wrong."""

from __future__ import annotations

import pytest

from batchrun.core.errors import HttpStatusError, JobError, Problem, dotted, known_values


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("run",), "run"),
        (("workflow", "nodes", 1, "retry", "rules", 0), "workflow.nodes[1].retry.rules[0]"),
        ((0, "a", 1, 2), "[0].a[1][2]"),
    ],
)
def test_paths_are_written_as_people_do(path: tuple[str | int, ...], text: str) -> None:
    """The same spelling works in messages and in --set."""
    assert dotted(path) == text


@pytest.mark.parametrize(
    ("name", "known", "end"),
    [
        ("tiem", ["time", "name"], 'did you mean "time"?'),
        ("zzz", ["time", "name"], "columns: name, time"),
        ("zzz", [], "there are no columns"),
        ("zzz", [f"c{number:02}" for number in range(13)], "columns: " + ", ".join(f"c{number:02}" for number in range(12)) + ", …"),
    ],
)
def test_unknown_names_get_the_nearest_or_all(name: str, known: list[str], end: str) -> None:
    """A typing mistake is answered with the word that was meant, anything else with what there is."""
    assert known_values(name, known, kind="columns") == end


def test_job_errors_hold_every_problem() -> None:
    """All mistakes are told at once, each with its place."""
    error = JobError([Problem(("run", "parallelism"), "must be ≥ 1, got 0", "job.yaml:3:5"), "there is no job file x"])
    assert str(error) == "job.yaml:3:5 run.parallelism: must be ≥ 1, got 0\nthere is no job file x"
    assert error.problems[1] == Problem((), "there is no job file x")


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (404, False), (408, True), (425, True), (429, True), (499, False), (500, True)]
)
def test_status_codes_say_whether_trying_again_helps(status: int, *, retryable: bool) -> None:
    """A request the service found wrong is never repeated; one it could not serve is."""
    assert HttpStatusError("no", status).retryable is retryable
