"""The report of an execution: one HTML page that needs nothing else, and its short form for notebooks."""

from batchrun.reports.page import report_page
from batchrun.reports.short import short_page

__all__ = ["report_page", "short_page"]
