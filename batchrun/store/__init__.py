"""The store: which executions there are and what they are doing. An index of their folders, which may be deleted and rebuilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.core.lazy import loader

if TYPE_CHECKING:
    from batchrun.store.cache import Cache
    from batchrun.store.choosing import end_of
    from batchrun.store.database import StoreError, store_home
    from batchrun.store.datasets import DatasetStore
    from batchrun.store.heartbeat import Heartbeat
    from batchrun.store.records import ExecutionQuery, StateChange, StoredExecution
    from batchrun.store.schedules import ScheduleStore
    from batchrun.store.store import NoSuchExecution, Store
    from batchrun.store.times import NotAMoment, moment
else:
    __getattr__ = loader(
        __name__,
        {
            "cache": "Cache",
            "choosing": "end_of",
            "database": "StoreError store_home",
            "datasets": "DatasetStore",
            "heartbeat": "Heartbeat",
            "records": "ExecutionQuery StateChange StoredExecution",
            "schedules": "ScheduleStore",
            "store": "NoSuchExecution Store",
            "times": "NotAMoment moment",
        },
    )

__all__ = [
    "Cache",
    "DatasetStore",
    "ExecutionQuery",
    "Heartbeat",
    "NoSuchExecution",
    "NotAMoment",
    "ScheduleStore",
    "StateChange",
    "Store",
    "StoreError",
    "StoredExecution",
    "end_of",
    "moment",
    "store_home",
]
