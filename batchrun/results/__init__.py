"""The result table: finished items in, one Parquet file out, in order and complete."""

from batchrun.results.exports import export_results, result_lines
from batchrun.results.failures import write_failures
from batchrun.results.files import atomic_json
from batchrun.results.journal import Journal
from batchrun.results.lookup import FoundItem, NoSuchItem, find_item, journal_totals, row_of
from batchrun.results.reader import RESULT_FILE, query_results, read_results, result_metadata, scan_results
from batchrun.results.recovery import Recovered
from batchrun.results.schema import RESULT_COLUMNS, ResultLayout
from batchrun.results.totals import FailureGroup, NodeTotals, ResultTotals
from batchrun.results.writer import ResultWriter

__all__ = [
    "RESULT_COLUMNS",
    "RESULT_FILE",
    "FailureGroup",
    "FoundItem",
    "Journal",
    "NoSuchItem",
    "NodeTotals",
    "Recovered",
    "ResultLayout",
    "ResultTotals",
    "ResultWriter",
    "atomic_json",
    "export_results",
    "find_item",
    "journal_totals",
    "query_results",
    "read_results",
    "result_lines",
    "result_metadata",
    "row_of",
    "scan_results",
    "write_failures",
]
