"""What every test shares."""

from __future__ import annotations

import pytest
from hypothesis import settings

# The same examples each time, and no deadline per example: a busy machine must not turn a test red.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
