"""Calling functions with inputs: the short way and the long one do the same."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batchrun.nodes.callers import caller
from batchrun.workflows.scope import Scope


def with_gap(a: int = 1, b: int = 10, *more: int, d: int = 1000, **others: int) -> list[Any]:
    return [a, b, more, d, others]


def half_named(a: int = 1, /, b: int = 10, c: int = 100) -> list[int]:
    return [a, b, c]


@functools.wraps(with_gap)
def taking_all(*args: Any, **kwargs: Any) -> Any:
    return [args, kwargs]


def turned(b: int = 5, a: int = 6) -> Any:
    return [b, a]


functools.update_wrapper(turned, with_gap)


class Adding:
    def __call__(self, b: int = 5, a: int = 6) -> Any:
        return [b, a]


def some(names: str) -> Iterator[tuple[str, ...]]:
    return itertools.chain.from_iterable(itertools.permutations(names, count) for count in range(len(names) + 1))


@pytest.mark.parametrize(
    "function",
    [with_gap, half_named, taking_all, turned, Adding(), Adding().__call__, functools.partial(with_gap, b=3)],
    ids=range(7),
)
def test_parameters_get_what_they_would_get_by_name(function: Callable[..., Any]) -> None:
    """Whatever order inputs are in, what is left out, how it is wrapped, and if a workflow in Python gives other arguments after all."""
    parameters = inspect.signature(function).parameters
    called = 0
    for names, given in itertools.product(some("abdx"), repeat=2):
        scope = Scope({}, [])
        scope.inputs = {name: f"{name}!" for name in given}
        try:
            wanted = function(**scope.inputs)
        except TypeError:
            continue
        if not any(parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY for name in names if name in parameters):
            assert caller(function, parameters, names, (), {})(scope) == wanted
            called += 1
    assert called > 30


@pytest.mark.parametrize("error", [KeyError, TypeError])
def test_what_a_function_raises_comes_through_and_it_is_called_once(error: type[Exception]) -> None:
    """An error of the function is not taken for inputs that do not fit, which would be a second call."""
    calls = []

    def once(text: str, other: str) -> None:
        calls.append((text, other))
        raise error(text)

    scope = Scope({}, [])
    scope.inputs = {"other": "b", "text": "a"}
    with pytest.raises(error, match="a"):
        caller(once, inspect.signature(once).parameters, ("other", "text"), (), {})(scope)
    assert calls == [("a", "b")]
