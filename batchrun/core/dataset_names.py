"""Names of datasets, of their versions and of tags, as people type them: `tickets`, `tickets@3`, `tickets@gold`."""

from __future__ import annotations

import re

from batchrun.core.errors import BatchrunError, known_values

LATEST = "latest"
"""The version that was made last."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
_SHORT = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)@([A-Za-z0-9_:+-]+)")


class DatasetError(BatchrunError):
    """What was asked of a named dataset cannot be done. The message says why, and what can."""


class BadName(DatasetError):
    """A text cannot be the name of a dataset or of a tag. The message says what can."""


class NoSuchDataset(DatasetError):
    """There is no dataset, or no version of it, that is called so. The message names those there are.

    Attributes:
        field: what is wrong: `name` or `version`.
    """

    def __init__(self, message: str, field: str = "name") -> None:
        super().__init__(message)
        self.field = field


def check_name(name: str) -> str:
    """The name, if a dataset may be called so.

    Raises:
        BadName: it may not.
    """
    if not _NAME.fullmatch(name):
        raise BadName(f"{name!r} cannot name a dataset: allowed are up to 100 letters, digits, dots, dashes and underscores, no dot first")
    return name


def check_tag(tag: str) -> str:
    """The tag, if a version may be called so.

    Raises:
        BadName: it may not; a tag must not look like a number or a date.
    """
    if tag == LATEST:
        raise BadName(f"{LATEST!r} is always the version that was made last; choose another tag")
    if not _TAG.fullmatch(tag):
        raise BadName(
            f"{tag!r} cannot be a tag: allowed are up to 100 letters, digits, dashes and underscores, a letter or underscore first"
        )
    return tag


def split_reference(text: str) -> tuple[str, str]:
    """The name and the version of `name@version`; without a version it is the latest.

    Example:
        >>> split_reference("tickets@3"), split_reference("tickets")
        (('tickets', '3'), ('tickets', 'latest'))
    """
    name, at, version = text.partition("@")
    return name, version if at else LATEST


def short_reference(text: str) -> tuple[str, str] | None:
    """The name and the version of a dataset in a place where a path may be as well; null when it is a path.

    Example:
        >>> short_reference("tickets@3"), short_reference("./tickets@3"), short_reference("tickets@3.csv")
        (('tickets', '3'), None, None)
    """
    match = _SHORT.fullmatch(text)
    return (match[1], match[2]) if match else None


def no_dataset(name: str, known: list[str], where: object) -> NoSuchDataset:
    """The error of a name that no dataset has.

    Args:
        name: what was typed.
        known: the names there are.
        where: the folder they are kept in.
    """
    if not known:
        return NoSuchDataset(f"no dataset {name!r}: there are none in {where}; make it: batchrun dataset add {name} PATH")
    return NoSuchDataset(f"no dataset {name!r}; {known_values(name, known, kind='datasets')}")
