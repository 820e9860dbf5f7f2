"""Opening object stores."""

from __future__ import annotations

import pytest

from batchrun.net.objects import ObjectProblem, explaining, library, store_of


@pytest.mark.parametrize("endpoint", ["localhost", "127.0.0.1:9000", "http://", "http:///"])
@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_an_environment_that_leads_to_no_server_is_told(monkeypatch: pytest.MonkeyPatch, name: str, endpoint: str) -> None:
    """The library panics at such an address, which ends a process after its items are done: no `except Exception` catches that."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv(name, endpoint)
    with pytest.raises(ObjectProblem, match=f"^{name} in the environment must be an address such as"), explaining("s3://bucket/x"):
        library().head(store_of("s3://bucket/x"), "x")


def test_a_server_without_encryption_has_to_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library refuses it with words about a builder, and the variable that allows it is easily forgotten."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    with pytest.raises(ObjectProblem, match=r"^AWS_ENDPOINT_URL in the environment begins with http://: set AWS_ALLOW_HTTP=true"):
        store_of("s3://bucket/x")
