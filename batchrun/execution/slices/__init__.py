"""Slices of the items, each run by a worker process: `run.backend: processes`.

The parent reads the dataset and keeps everything that there is once: the journal, the result, the counts, the requests of
people. Workers run items as a whole execution of one process would, and hand over finished rows.
"""
