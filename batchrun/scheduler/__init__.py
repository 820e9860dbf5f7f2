"""The scheduler: fires schedules when their time has come, each in a process of its own."""

from batchrun.scheduler.loop import Scheduler

__all__ = ["Scheduler"]
