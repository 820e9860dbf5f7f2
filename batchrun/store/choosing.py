"""Choosing a version of a dataset by what people call it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from batchrun.core.dataset_names import LATEST, NoSuchDataset
from batchrun.core.dataset_versions import DatasetVersion
from batchrun.core.errors import known_values
from batchrun.store.times import NotAMoment, moment

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}|today|yesterday")


def choose(name: str, versions: Sequence[DatasetVersion], wanted: str) -> DatasetVersion:
    """The version that is meant.

    Args:
        name: the dataset.
        versions: its versions, newest first; at least one.
        wanted: `latest`, a number, a tag, or a time: the newest version of then, at the end of the day when it is a day.

    Raises:
        NoSuchDataset: there is none; the message names those there are.
    """
    text = wanted.strip()
    if text == LATEST:
        return versions[0]
    for each in versions:
        if text in (str(each.version), *each.tags):
            return each
    end = None if text.isdecimal() else end_of(text)
    if end is None:
        raise no_version(name, text, versions)
    made = [each for each in versions if each.created_at < end]
    if not made:
        oldest = f"{versions[-1].version}, is of {versions[-1].created_at:%Y-%m-%d %H:%M} UTC"
        raise NoSuchDataset(f"dataset {name!r} has no version of {text}: the oldest there is, {oldest}", "version")
    return max(made, key=lambda each: each.version)


def no_version(name: str, text: str, versions: Sequence[DatasetVersion]) -> NoSuchDataset:
    """The error of a version that is none, given those there are, newest first."""
    tags = sorted(tag for version in versions for tag in version.tags)
    numbers = ", ".join(str(version.version) for version in reversed(versions))
    hint = f"{known_values(text, tags, kind='tags')}; versions: {numbers}; a date and {LATEST} will do as well"
    return NoSuchDataset(f"dataset {name!r} has no version {text!r}; {hint}", "version")


def end_of(text: str) -> datetime | None:
    """The end of the time that a text means; null when it means none. A day ends at midnight, local time."""
    try:
        return moment(text) + timedelta(days=1 if _DAY.fullmatch(text) else 0, microseconds=1)
    except (NotAMoment, OverflowError):
        return None
