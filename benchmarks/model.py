"""The words of the benchmarks: cases, what is compared in them, and what was measured."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

Files: TypeAlias = Callable[[Path, int], AbstractContextManager[dict[str, Any]]]
"""Makes what a case needs, given an empty folder and a number of items: arguments for its variants, and a service while it is entered."""

_MOST_TAKEN_OFF_RATIO = 0.25
_WITH_TWO_DIGITS = 0.2


class BenchmarkError(Exception):
    """A measurement could not be made, or did not do the work it was asked to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to do the work of a case.

    Attributes:
        name: as it is shown.
        call: `module:function` within `benchmarks`. Called in a new process with the arguments of the case, it gets ready and
            returns a function that does the work and returns how many items it did, or a function that counts them when the clock
            has stopped. Only that function is measured. With it may come what a few items took: `warming.Warm`.
        arguments: of this variant, besides those of the case.
        share: the part of the items this one is given: times are compared per item, and some are slow.
        items: how many items it is given, whatever the case says.
        peer: the environment it runs in, for other tools.
        is_for_full: measured only with `--full`.
    """

    name: str
    call: str
    arguments: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    items: int | None = None
    peer: str | None = None
    is_for_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a ratio to another variant of the same rounds should be.

    Attributes:
        at_most: of the time per item, in times of the other's.
        of: `time`; `memory`: of peak memory; `seconds`: of one item, absolute, on an idle machine with two cores.
    """

    variant: str
    at_most: float
    against: str | None = None
    of: Literal["time", "memory", "seconds"] = "time"

    def __str__(self) -> str:
        """As it is shown."""
        if self.of == "seconds":
            return f"{self.variant}: ≤ {self.at_most * 1e3:.0f} ms"
        digits = 2 if self.at_most >= _WITH_TWO_DIGITS else 3
        return f"{self.variant}: ≤ {self.at_most:.{digits}f} × {'the memory of ' if self.of == 'memory' else ''}{self.against}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The same work, done in several ways.

    Attributes:
        group: what `--only` calls it.
        baseline: the variant the others are compared with: a hand-written program where there is one, the limit.
        items: how many by default; a full table of measurements takes minutes.
        quick_items: with `--quick`: enough to see that it runs, too few to compare.
        ideal_seconds: of so many items, where there is an ideal time no program can beat; it is the baseline then.
    """

    group: str
    name: str
    about: str
    baseline: str
    variants: tuple[Variant, ...]
    files: Files
    items: int
    quick_items: int
    aims: tuple[Aim, ...] = ()
    ideal_seconds: Callable[[int], float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one process told.

    Attributes:
        seconds: of the work.
        cpu_seconds: of the work, in all processes that took part.
        peak_mib: resident memory of these processes together; pages that several share count for each.
        start_seconds: the interpreter, imports, and the first ten items, where there are any to warm up.
        fixed_seconds: of the work when there is next to nothing to do; taken off in comparisons.
        items: how many were done.
        facts: whatever else the variant tells.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    start_seconds: float
    items: int
    fixed_seconds: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def is_rough(self) -> bool:
        """Whether so much is taken off that the rest says little: what a run costs whatever its items differs from run to run."""
        return self.fixed_seconds > _MOST_TAKEN_OFF_RATIO * self.seconds

    @property
    def micros(self) -> float:
        """Microseconds per item, without what does not depend on their number."""
        return max(self.seconds - self.fixed_seconds, 1e-9) / self.items * 1e6

    @property
    def cpu_micros(self) -> float:
        """Microseconds of CPU time per item."""
        return self.cpu_seconds / self.items * 1e6


Round: TypeAlias = dict[str, Measured]
"""The measurements of one round, by variant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """All rounds of a case.

    Attributes:
        unmeasured: why a variant could not be measured, by its name.
        is_quick: there were too few items to compare.
    """

    case: Case
    rounds: tuple[Round, ...]
    unmeasured: dict[str, str]
    is_quick: bool = False
