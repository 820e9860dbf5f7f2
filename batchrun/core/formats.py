"""How the files of a dataset are written or listed, and which part of its rows is read: mappings of the job file."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.core.checks import at_least, problem, ratio, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A random part of the items, the same one for the same seed."""

    fraction: float | None = None
    """Share of the items to keep, 0 to 1."""
    n: int | None = None
    """Number of items to keep."""
    seed: int = 0
    """Another seed gives another sample."""

    def __post_init__(self) -> None:
        refuse(ratio(fraction=self.fraction), at_least(0, n=self.n))
        if (self.fraction is None) == (self.n is None):
            raise ValueError("give either fraction or n")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """How CSV files are written."""

    delimiter: str = ","
    """One character between cells."""
    encoding: str = "utf-8"
    """Any encoding Python knows, for example latin-1 or utf-16."""
    quote: str | None = '"'
    """One character around cells; null when cells are never quoted."""
    header: bool = True
    """Whether the first line names the columns; without it they are column_0, column_1, …"""
    null_values: tuple[str, ...] = ("",)
    """Cell texts that mean null."""

    def __post_init__(self) -> None:
        characters = {"delimiter": self.delimiter, "quote": self.quote}
        wrong = {name: value for name, value in characters.items() if value is not None and len(value.encode()) != 1}
        refuse(*(problem(name, f"must be one ASCII character, got {value!r}") for name, value in wrong.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesFormat:
    """Which files of a folder become items, when `dataset.format` is `files`."""

    include: tuple[str, ...] = ()
    """Patterns, such as `*.pdf` or `invoices/**/*.xml`; one without a slash is that of a name, in any folder. None: all files."""
    hidden: bool = False
    """Also the files whose name, or whose folder's name, starts with a dot."""
    digests: bool = False
    """Read all files before the first item, and tell by their bytes whether one has changed; else by size and time."""
