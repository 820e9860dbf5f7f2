"""Opening what executions have left, and comparing it."""

from __future__ import annotations

from pathlib import Path

from batchrun.client.execution import Execution
from batchrun.client.finding import find_folder
from batchrun.client.view import ExecutionView
from batchrun.results import ResultDiff, diff_results

_RUNS = Path("runs")


def open(execution: str | Path) -> Execution:  # noqa: A001 - the name of the API
    """The execution that is meant, with its result, however it was run; it may be moved or copied from elsewhere.

    Args:
        execution: its folder, its id, the unique beginning of its id, or `latest`. Ids are looked for in the store and in `./runs`.

    Raises:
        NoSuchExecution: there is none, or there are several; the message names candidates.
        ExecutionError: its record cannot be read.

    Example:
        >>> batchrun.open("latest").results_frame().filter(pl.col("status") == "failed").collect()  # doctest: +SKIP
    """
    return Execution(find_folder(str(execution), _RUNS))


def diff(before: str | Path | ExecutionView, after: str | Path | ExecutionView) -> ResultDiff:
    """What is different in the results of two executions, item by item: outputs, statuses, durations, and items only one of them has.

    Items are the same when their `source_item_id` is. Memory grows with the number of items, about 600 bytes for each, and not with
    their outputs.

    Args:
        before: the earlier execution: as in `open`, or an `Execution`.
        after: the later one.

    Returns:
        Counts, and a table with a row for each item that is different.

    Raises:
        NoSuchExecution: there is no such execution, or there are several.
        ResultsDiffer: their ids are of different types.
        ExecutionError: an execution has not come to a result.

    Example:
        >>> batchrun.diff("20261101T093000-0a1b2c3d4e", "latest").table.to_pandas()  # doctest: +SKIP
    """
    return diff_results(*(each.folder if isinstance(each, ExecutionView) else find_folder(str(each), _RUNS) for each in (before, after)))
