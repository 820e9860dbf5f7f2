"""What is changed in the processes of runners: their clock, and the last step of a result."""

from __future__ import annotations

CLOCK = """\
import datetime
import os
import time

SHIFT = float(os.environ["CLOCK"])
REAL, now, now_ns = datetime.datetime, time.time, time.time_ns
time.time = lambda: now() + SHIFT
time.time_ns = lambda: now_ns() + int(SHIFT * 1e9)


class Any(type):
    def __instancecheck__(self, value):
        return isinstance(value, REAL)


class Clock(REAL, metaclass=Any):
    fromisoformat, fromtimestamp, strptime = REAL.fromisoformat, REAL.fromtimestamp, REAL.strptime

    @staticmethod
    def now(zone=None):
        return REAL.now(zone) + datetime.timedelta(seconds=SHIFT)


datetime.datetime = Clock
"""
"""A `sitecustomize` that sets the clock of a process by `CLOCK` seconds."""

UNNAMED = """

import os

replace = os.replace


def held(source, target):
    while str(target).endswith("results.parquet") and Path("unnamed").exists():
        time.sleep(0.01)
    replace(source, target)


os.replace = held
"""
"""The last step of a result does not come: however late a kill is, it comes before the end."""
