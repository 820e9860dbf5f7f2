"""Telling the store about an execution while it runs, without ever waiting for the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batchrun.store.database import StoreError, store_home
from batchrun.store.store import Store

_CLOSE_SECONDS = 2.0


class Heartbeat:
    """A thread that writes what one execution hands over, and its heartbeat.

    Handing over takes no time, whatever the store does. A record is written at once, progress with the next heartbeat;
    of both only the newest counts. The heart beats as long as the process lives, also while its event loop is busy.
    What cannot be written is written with a later heartbeat. Trouble is told once and raises nothing: an execution
    does not need the store.

    Args:
        on_note: is told of trouble, once; mostly in the thread of the heartbeat.
        home: the folder of the store; null: see `store_home`.
        interval_seconds: the time between heartbeats.

    Example:
        >>> heartbeat = Heartbeat(print)
        >>> heartbeat.save(record)
        >>> heartbeat.beat({"processed_items": 10})
        >>> heartbeat.close()
    """

    def __init__(self, on_note: Callable[[str], None], home: Path | None = None, *, interval_seconds: float = 1.0) -> None:
        self._on_note = on_note
        self._home = (home or store_home()).absolute()  # functions of users may change the working directory
        self._interval_seconds = interval_seconds
        self._record: Mapping[str, Any] | None = None
        self._progress: Mapping[str, Any] | None = None
        self._written: Mapping[str, Any] | None = None
        self._told = threading.Lock()  # taken by the thread that tells of trouble, and never given back
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batchrun-heartbeat", daemon=True)

    def save(self, record: Mapping[str, Any]) -> None:
        """Hand over the record of the execution, to be written at once; the heart beats from then on. See `Store.save`."""
        self._record = dict(record)
        self._wake.set()
        if self._thread.ident is None:
            self._thread.start()

    def beat(self, progress: Mapping[str, Any]) -> None:
        """Hand over how far the execution is, to be written with the next heartbeat. See `Store.beat`."""
        self._progress = progress

    def close(self) -> None:
        """Write what was handed over and end. Waits at most 2 seconds; after that the rest is written only if the process lives on."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is None:
            return
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            self._tell("the store is busy, and the last state of the execution may be missing from it: see `batchrun list --rebuild`")

    def _work(self) -> None:
        store: Store | None = None
        closing = False
        while not closing:
            self._wake.wait(self._interval_seconds)
            self._wake.clear()
            closing = self._closing  # before writing: what is handed over before `close` is written
            try:
                store = store or Store(self._home)
                self._write(store)
            except StoreError as error:
                self._tell(f"the execution goes on, but the list of executions may not show it: {error}")
        if store is not None:
            store.close()

    def _write(self, store: Store) -> None:
        record = self._record
        if record is None:
            return
        if record is not self._written:
            store.save(record)
            self._written = record
        if not store.beat(str(record["execution_id"]), self._progress):
            store.save(record)  # the file was deleted, or rebuilt before the folder of this execution was there

    def _tell(self, note: str) -> None:
        if self._told.acquire(blocking=False):
            self._on_note(note)
