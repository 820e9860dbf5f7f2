"""Datasets as tests write them: real files in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import Dataset
from batchrun.datasets import Loaded, open_source

Load = Callable[..., Loaded]
Refusal = Callable[..., str]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Open and load a dataset below the temporary folder."""

    def run(path: str, *, read: Sequence[str] | None = None, keep: Sequence[str] = (), **options: Any) -> Loaded:
        source = open_source(Dataset(path=path, **options), tmp_path)
        wanted = list(source.columns) if read is None else read
        return source.load(wanted, keep, spool=tmp_path / "_spool", rejects=tmp_path / "_rejects.parquet")

    return run


@pytest.fixture
def refusal(load: Load) -> Refusal:
    """The message a dataset is refused with, while it is opened or loaded."""

    def run(path: str, **options: Any) -> str:
        with pytest.raises(JobError) as caught:
            load(path, **options)
        return str(caught.value)

    return run
