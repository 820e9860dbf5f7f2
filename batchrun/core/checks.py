"""Checks of option values, shared by every options dataclass of a job."""

from __future__ import annotations

from collections.abc import Iterator

NO_MEANING = "no_meaning"
"""Metadata of fields of nodes that change nothing about what comes out."""

KEY = "key"
"""In the metadata of a dataclass field: its key in the file, where that cannot be the name of a field in Python."""


class InvalidFields(ValueError):
    """One or more fields of an options object have values that are not allowed."""

    def __init__(self, problems: list[tuple[tuple[str | int, ...], str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{'.'.join(map(str, path))}: {message}" for path, message in problems))


def at_least(minimum: float, **values: float | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The values below `minimum`; null is always allowed."""
    for name, value in values.items():
        if value is not None and not value >= minimum:
            yield (name,), f"must be ≥ {minimum:g}, got {value:g}"


def above(minimum: float, **values: float | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The values not above `minimum`; null is always allowed."""
    for name, value in values.items():
        if value is not None and not value > minimum:
            yield (name,), f"must be > {minimum:g}, got {value:g}"


def ratio(**values: float | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The values outside 0 to 1; null is always allowed."""
    for name, value in values.items():
        if value is not None and not 0 <= value <= 1:
            yield (name,), f"must be between 0 and 1, got {value:g}"


def problem(name: str, message: str | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The field `name` with what is wrong with it; null: nothing is."""
    if message is not None:
        yield (name,), message


def refuse(*groups: Iterator[tuple[tuple[str | int, ...], str]]) -> None:
    """Raise `InvalidFields` with everything the checks found.

    Raises:
        InvalidFields: when at least one check yielded a problem.
    """
    problems = [problem for group in groups for problem in group]
    if problems:
        raise InvalidFields(problems)
