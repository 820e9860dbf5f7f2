"""Functions and classes that are called in threads and processes; in a module that tests nothing, so that processes import little."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

from batchrun import Context


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class OddError(Exception):
    """Comes out of a pickle as nothing."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.http_status = code


def where(n: int) -> list[int]:
    return [os.getpid(), threading.get_ident(), n]


async def where_async(n: int) -> list[int]:
    await asyncio.sleep(0)
    return [os.getpid(), threading.get_ident(), n]


def where_all(n: list[int]) -> list[list[int]]:
    return [[os.getpid(), each] for each in n]


def double(n: int, /, *, by: int = 2) -> int:
    return n * by


def doubles(n: list[int]) -> list[int]:
    if 3 in n:
        os._exit(9)
    return [each * 2 for each in n]


def point(n: int) -> Point:
    return Point(n, n)


def flipped(place: Point) -> Point:
    return Point(place.y, -place.x)


def given(value: Any) -> str:
    return str(value)


def lock(n: int) -> Any:
    return threading.Lock()


def fails(n: int) -> int:
    if n == 1:
        raise OddError(code=404)
    if n == 2:
        raise StopIteration
    if n == 3:
        raise KeyboardInterrupt
    if n == 4:
        raise ConnectionError("nobody answers")
    return n


def dies(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


def hangs(n: int) -> int:
    while True:
        pass


def asks(n: int, context: Context) -> int:
    return n


class Counter:
    """Counts its calls, and writes down what becomes of it."""

    def __init__(self, start: int = 0, log: str | None = None) -> None:
        self.count = start
        self.log = log

    def setup(self) -> None:
        self.note(f"setup {os.getpid()}")

    def __call__(self, n: int) -> list[int]:
        self.count += 1
        return [os.getpid(), self.count]

    def teardown(self) -> None:
        self.note(f"teardown {os.getpid()}")

    def note(self, line: str) -> None:
        if self.log is not None:
            with open(self.log, "a") as file:  # noqa: PTH123
                file.write(f"{line}\n")


class AsyncCounter(Counter):
    """The same, async."""

    async def setup(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.note(f"setup {os.getpid()}")

    async def __call__(self, n: int) -> list[int]:
        assert asyncio.get_running_loop() is self.loop
        self.count += 1
        return [os.getpid(), self.count]

    async def teardown(self) -> None:
        self.note(f"teardown {os.getpid()}")


class Broken:
    """Cannot be set up."""

    def setup(self) -> None:
        raise FileNotFoundError("no weights in models/")

    def __call__(self, n: int) -> int:
        return n


class BadEnd:
    """Cannot be taken down."""

    def __call__(self, n: int) -> int:
        return n

    def teardown(self) -> None:
        raise OSError("the device is gone")
