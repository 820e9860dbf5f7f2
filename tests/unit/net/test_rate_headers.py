"""What services say about their limits in the headers of an answer."""

from __future__ import annotations

import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.net.failures import retry_after_seconds
from batchrun.net.rate_headers import used_up_seconds

DATE = "Sun, 01 Nov 2026 09:30:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "30"}, 30),
        ({"RateLimit-Remaining": "1", "RateLimit-Reset": "30"}, 0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1793525460", "date": DATE}, 60),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h0m1.5s"}, 3_601.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "250ms", "x-ratelimit-reset-requests": "9s"}, 0.25),
        ({"acme-ratelimit-requests-remaining": "0", "acme-ratelimit-requests-reset": "2026-11-01T09:30:12Z", "date": DATE}, 12),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "Sun, 01 Nov 2026 09:30:05 GMT", "date": DATE}, 5),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1793525000", "date": DATE}, 0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999"}, 86_400),
        ({"x-ratelimit-remaining": "0"}, 0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"}, 0),
        ({"x-ratelimit-remaining": "none", "x-ratelimit-reset": "5"}, 0),
    ],
)
def test_a_limit_that_is_used_up_says_until_when(headers: dict[str, str], seconds: float) -> None:
    """In all the ways that are in use; what cannot be read is as if it had not been said."""
    assert used_up_seconds(httpx.Headers(headers).raw) == pytest.approx(seconds)


def test_without_a_date_of_the_service_our_clock_counts() -> None:
    """Close enough for a wait."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{time.time() + 100:.0f}"}
    assert 90 < used_up_seconds(httpx.Headers(headers).raw) < 110


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255)), st.text(st.characters(min_codepoint=32, max_codepoint=255)))
def test_no_header_breaks_a_call(reset: str, date: str) -> None:
    """A service may send anything."""
    headers = httpx.Headers(
        [(b"x-ratelimit-remaining", b"0"), (b"x-ratelimit-reset", reset.encode("latin-1")), (b"date", date.encode("latin-1"))]
    )
    assert 0 <= used_up_seconds(headers.raw) <= 86_400


def test_milliseconds_are_more_exact_than_seconds() -> None:
    """Some services send both, the latter rounded up."""
    assert retry_after_seconds(httpx.Headers({"retry-after-ms": "1250", "retry-after": "2"})) == 1.25
    assert retry_after_seconds(httpx.Headers({"retry-after-ms": "soon", "retry-after": "2"})) == 2.0
