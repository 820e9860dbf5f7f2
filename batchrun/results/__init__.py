"""The result table: finished items in, one Parquet file out, in order and complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.core.lazy import loader

if TYPE_CHECKING:
    from batchrun.results.diff import DiffCounts, ResultDiff, ResultsDiffer, diff_results
    from batchrun.results.exports import Rows, export_results, result_lines
    from batchrun.results.failures import write_failures
    from batchrun.results.figures import result_figures
    from batchrun.results.files import atomic_json, replacing
    from batchrun.results.journal import Journal
    from batchrun.results.lookup import FoundItem, NoSuchItem, find_item, journal_totals, row_of
    from batchrun.results.partitions import PARTITION_TYPES
    from batchrun.results.reader import RESULT_FILE, query_results, read_results, result_metadata, scan_results
    from batchrun.results.recovery import Recovered
    from batchrun.results.schema import RESULT_COLUMNS, ResultLayout
    from batchrun.results.totals import FailureGroup, NodeTotals, ResultTotals
    from batchrun.results.writer import ResultWriter
else:
    __getattr__ = loader(
        __name__,
        {
            "diff": "DiffCounts ResultDiff ResultsDiffer diff_results",
            "exports": "Rows export_results result_lines",
            "failures": "write_failures",
            "figures": "result_figures",
            "files": "atomic_json replacing",
            "journal": "Journal",
            "lookup": "FoundItem NoSuchItem find_item journal_totals row_of",
            "partitions": "PARTITION_TYPES",
            "reader": "RESULT_FILE query_results read_results result_metadata scan_results",
            "recovery": "Recovered",
            "schema": "RESULT_COLUMNS ResultLayout",
            "totals": "FailureGroup NodeTotals ResultTotals",
            "writer": "ResultWriter",
        },
    )

__all__ = [
    "PARTITION_TYPES",
    "RESULT_COLUMNS",
    "RESULT_FILE",
    "DiffCounts",
    "FailureGroup",
    "FoundItem",
    "Journal",
    "NoSuchItem",
    "NodeTotals",
    "Recovered",
    "ResultDiff",
    "ResultLayout",
    "ResultTotals",
    "ResultWriter",
    "ResultsDiffer",
    "Rows",
    "atomic_json",
    "diff_results",
    "export_results",
    "find_item",
    "journal_totals",
    "query_results",
    "read_results",
    "replacing",
    "result_figures",
    "result_lines",
    "result_metadata",
    "row_of",
    "scan_results",
    "write_failures",
]
