"""Sending traces and metrics to the collector that the usual OTEL_* variables name."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from batchrun.core.events import Event

if TYPE_CHECKING:
    from batchrun.telemetry.otel import Exporting

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


class Collector:
    """A sink that sends everything; what it needs is loaded with the first event, in the thread of the sink."""

    def __init__(self) -> None:
        self._exporting: Exporting | None = None

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._exporting is None:
            self._exporting = import_module("batchrun.telemetry.otel").Exporting()
        self._exporting(event)

    def close(self) -> None:
        """Send what has not been sent yet."""
        if self._exporting is not None:
            self._exporting.close()


def collector_of_environment(on_note: Callable[[str], None]) -> list[Collector]:
    """The sink of the collector that the environment names; none when it names none, or when OpenTelemetry is not installed."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    named = next(filter(os.environ.get, _ENDPOINTS), None)
    if named is None:
        return []
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter") is None:
        on_note(f"{named} is set, but traces and metrics need an extra: pip install 'batchrun[otel]'")
        return []
    return [Collector()]
