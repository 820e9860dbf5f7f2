"""The identity of functions that are not like others: it is always found, always the same, and never takes long."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import importlib
import json
import sys
import types
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchrun.nodes.identity import identity_of


class Forbidding:
    """An object that answers no question."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __call__(self, text: str) -> str:
        return text


@dataclasses.dataclass
class Point:
    x: int
    inner: Any = None


class Colour(enum.Flag):
    RED = 1
    BLUE = 2


def recursive() -> Callable[..., Any]:
    def down(depth: int) -> Any:
        return up(depth)

    def up(depth: int) -> Any:
        return down(depth - 1) if depth else Forbidding

    return down


def unfinished() -> Callable[[], Any]:
    def reads() -> Any:
        return later

    if not reads:
        later = 1
    return reads


def nested() -> list[Any]:
    inner: list[Any] = []
    for _ in range(5000):
        inner = [inner]
    return inner


def cyclic() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    inner["self"] = [inner, inner]
    point = Point(1)
    point.inner = point
    return {"dict": inner, "point": point}


ODD: list[Callable[..., Any]] = [
    len,
    str,
    str.upper,
    [1].append,
    dict.fromkeys,
    json.loads,
    print,
    type,
    object(),  # type: ignore[list-item]
    Forbidding(),
    recursive(),
    unfinished(),
    functools.singledispatch(lambda value: value),
    functools.lru_cache(len),
    types.SimpleNamespace(a=lambda: 1),  # type: ignore[list-item]
    *(
        functools.partial(print, value)
        for value in (
            Forbidding(),
            nested(),
            cyclic(),
            10**5000,
            Colour.RED | Colour.BLUE,
            sys,
            dt.timedelta(1),
            complex(1, 2),
            dt.datetime(2026, 1, 1),
            namedtuple("Pair", "a b")(1, 2),  # noqa: PYI024
            property(recursive()),
            staticmethod(len),
            {1: "a", "b": None, None: ...},
            type("Made", (Point,), {"__slots__": (), "f": lambda self: self}),
            range(10**9),
            Path("x"),
        )
    ),
]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_no_function_is_too_odd(number: int) -> None:
    """A job is never refused because of what its function is made of, and what it is made of is always told the same way."""
    found = identity_of(ODD[number])
    assert found == identity_of(ODD[number])
    assert "0x7f" not in found


def test_values_in_partials_count() -> None:
    """A fixed argument is part of the function, whatever its type."""
    values = [
        1,
        1.0,
        "1",
        b"1",
        None,
        [1],
        (1,),
        {1},
        {1: 1},
        Point(1),
        Point(2),
        dt.date(2026, 1, 1),
        dt.date(2026, 1, 2),
        Colour.RED,
        Colour.BLUE,
    ]
    assert len({identity_of(functools.partial(print, value)) for value in values}) >= len(values) - 2
    points = [identity_of(functools.partial(identity_of, Point(1))) for _ in range(2)]
    assert points[0] == points[1]


def test_work_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function at the top of a huge package, or with a huge argument, must not hold up the job that calls it."""
    functions = "".join(f"def f{number}(x):\n    return f{number + 1}(x)\n" for number in range(3000))
    (tmp_path / "huge_package.py").write_text(functions, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("huge_package")
    found = identity_of(module.f0)
    assert "f900" in found
    assert "f2000" not in found
    assert identity_of(functools.partial(module.f2999, list(range(300_000)))).startswith("partial(#0, list(300000 values)")
    del sys.modules["huge_package"]
