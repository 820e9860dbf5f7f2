"""Something for each item in a few bytes: a million items must not cost a million Python objects."""

from __future__ import annotations

from array import array
from typing import Generic, TypeVar

T = TypeVar("T")


class Numbers:
    """A number for each item, by ordinal; -1 where none was given."""

    def __init__(self) -> None:
        self._numbers = array("q")

    def __getitem__(self, ordinal: int) -> int:
        return self._numbers[ordinal] if ordinal < len(self._numbers) else -1

    def __setitem__(self, ordinal: int, number: int) -> None:
        if ordinal >= len(self._numbers):
            self._numbers.extend([-1] * (max(ordinal + 1, 2 * len(self._numbers)) - len(self._numbers)))
        self._numbers[ordinal] = number


class Values(Generic[T]):
    """A value for each item, by ordinal; many items have the same one, and it is there only once.

    Args:
        default: the value where none was given.
    """

    def __init__(self, default: T) -> None:
        self._default = default
        self._values: list[T] = []
        self._numbers: dict[T, int] = {}
        self._by_ordinal = Numbers()

    def __getitem__(self, ordinal: int) -> T:
        number = self._by_ordinal[ordinal]
        return self._values[number] if number >= 0 else self._default

    def __setitem__(self, ordinal: int, value: T) -> None:
        number = self._numbers.setdefault(value, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        self._by_ordinal[ordinal] = number

    @property
    def different(self) -> list[T]:
        """All values that were ever given, each once."""
        return self._values
