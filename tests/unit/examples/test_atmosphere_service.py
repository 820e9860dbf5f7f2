"""The service of the HTTP example fails the way the example says it does."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from atmosphere_service import serving


def _get(base_url: str, path: str) -> tuple[int, dict[str, str], dict[str, object]]:
    connection = HTTPConnection(urlsplit(base_url).netloc)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), json.loads(response.read())
    finally:
        connection.close()


def test_first_call_of_some_airports_is_refused_and_the_second_served() -> None:
    """Retries are seen in the example, the same ones each time."""
    with serving() as base_url:
        throttled, broken = "/airports/SAAG/air?elevation_ft=59", "/airports/SANT/air?elevation_ft=1493"
        assert _get(base_url, throttled)[0] == 429
        assert _get(base_url, throttled)[0] == 200
        assert _get(base_url, broken)[0] == 503
        assert _get(base_url, broken)[0] == 200


def test_throttling_says_how_long_to_wait() -> None:
    """The example shows that Retry-After is honoured."""
    with serving() as base_url:
        _, headers, _ = _get(base_url, "/airports/SAAG/air?elevation_ft=59")
    assert headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/airports/SLLP/air?elevation_ft=13355.0", 422), ("/airports/SLLP/air?elevation_ft=high", 422), ("/airports/SLLP", 404)],
)
def test_bad_requests_are_refused_for_good(path: str, status: int) -> None:
    """One airport of the example fails and tells why."""
    with serving() as base_url:
        assert _get(base_url, path)[0] == status
        assert _get(base_url, path)[0] == status
