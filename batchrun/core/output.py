"""What a job says of its result: where it goes, what is in it, and its copies in other formats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from batchrun.core.addresses import folder_problem
from batchrun.core.checks import problem, refuse

_NO_CREDENTIALS = "must not have credentials in the address; they come from the environment, such as AWS_ACCESS_KEY_ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A copy of the result in another format."""

    type: Literal["csv", "ndjson", "arrow", "parquet", "delta"]
    """The format. A plain name in the list of exports is short for this."""
    partition_by: tuple[str, ...] = ()
    """Of parquet: the columns whose values name the folders of the copy: `partitions/language=en/part-0.parquet`."""
    escape_formulas: bool = False
    """Of csv: put `'` before texts that a spreadsheet would take for formulas."""
    path: str | None = None
    """Of delta: the table that gets the rows of all executions of the job, each in one commit: a folder, relative to the job file, or an
    address (s3://, gs://, az://). Null: the table `delta` in the folder of the execution."""

    def __post_init__(self) -> None:
        is_parquet, repeated = self.type == "parquet", len(set(self.partition_by)) < len(self.partition_by)
        missing = "is missing; name the columns, such as [status]: results.parquet is there anyway" if not self.partition_by else None
        unfit = f"belongs to exports of type parquet, not {self.type}" if self.partition_by else None
        wrong = "belongs to exports of type csv" if self.escape_formulas and self.type != "csv" else None
        refuse(
            problem("partition_by", missing if is_parquet else unfit),
            problem("partition_by", "names a column twice" if repeated else None),
            problem("escape_formulas", wrong),
            problem(
                "path", f"belongs to exports of type delta, not {self.type}" if self.path is not None and self.type != "delta" else None
            ),
            problem("path", _NO_CREDENTIALS if "://" in (self.path or "") and "@" in (self.path or "") else None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the result goes and what is in it."""

    path: str = "runs"
    """Folder that gets one folder per execution; relative to the job file."""
    export: tuple[Literal["csv", "ndjson", "arrow", "delta"] | Export, ...] = ()
    """Copies of the result in other formats, beside results.parquet: names, or mappings with options."""
    flatten: bool = False
    """Write each field of the output as a column of its own, in the place of `output`; it must be a struct."""
    keep: tuple[str, ...] = ()
    """Source columns copied into the result."""
    node_executions: Literal["full", "summary", "none"] = "full"
    """full: with inputs and outputs; summary: status, attempts and times; none: no node records."""
    events: bool = False
    """Write down what happens, one JSON object per event, in events.jsonl beside the result."""
    report: bool = True
    """Write report.html beside the result: counts, charts, failures and slow items, for a browser."""
    publish: str | None = None
    """Address (s3://, gs://, az://) that the files of each completed execution are copied below, in a folder named by its id, with the
    object `_SUCCESS` written last. Needs `batchrun[cloud]`; credentials come from the environment. Null: nowhere."""

    def __post_init__(self) -> None:
        types = [each if isinstance(each, str) else getattr(each, "type", "") for each in self.export]  # in Python, also a plain mapping
        repeated = [kind for kind in dict.fromkeys(types) if kind and types.count(kind) > 1]
        refuse(
            problem("export", f"has {repeated[0]} twice, and both would be written to the same place" if repeated else None),
            problem("publish", folder_problem(self.publish) if isinstance(self.publish, str) else None),
        )

    @property
    def exports(self) -> tuple[Export, ...]:
        """What `export` says, in its long form."""
        return tuple(Export(type=each) if isinstance(each, str) else each for each in self.export)
