"""What a failed request says in the result."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.net.failures import describe, excerpt, retry_after_seconds

DATE = "Sat, 21 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"Retry-After": "Sat, 21 Nov 2026 10:01:30 GMT", "Date": DATE}, 90.0),
        ({"Retry-After": "Saturday, 21-Nov-26 10:01:30 GMT", "Date": DATE}, 90.0),
        ({"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "1e9999"}, None),
    ],
)
def test_retry_after_is_read_in_both_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Coming back too early gets a job blocked, coming back too late wastes its time."""
    assert retry_after_seconds(httpx.Headers(headers)) == seconds


NUMBER = st.integers(0, 99) | st.integers(0, 10**25)


@given(
    st.text()
    | st.builds(
        "Sat, {} Nov {} {}:{}:{} {}{}".format, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, st.sampled_from(["GMT", "+", "-", ""]), NUMBER
    )
)
def test_retry_after_never_breaks(value: str) -> None:
    """Services write anything into headers; it must not turn a throttled call into a crash."""
    seconds = retry_after_seconds(httpx.Headers({b"Retry-After": value.encode("utf-8", "replace")}))
    assert seconds is None or 0 <= seconds < float("inf")


@given(st.binary(max_size=2_000) | st.text(max_size=1_000).map(lambda text: text.encode("utf-8", "replace")))
def test_excerpts_are_short_and_printable(body: bytes) -> None:
    """Error messages end in terminals, logs and tables, which control characters would break."""
    text = excerpt(body)
    assert len(text) <= 300
    assert text.isprintable()


def test_addresses_in_messages_hold_no_secrets() -> None:
    """Messages are stored with the result; logins and keys in addresses must not be."""
    assert describe(httpx.Request("GET", "https://user:password@[::1]:8443/a%20b?key=secret#part")) == "GET https://[::1]:8443/a%20b"
