"""What every test shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# The same examples each time, and no deadline per example: a busy machine must not turn a test red.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _list_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests run is not listed among the executions of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BATCHRUN_HOME", str(tmp_path_factory.mktemp("home")))
        yield
