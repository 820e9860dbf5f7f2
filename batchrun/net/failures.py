"""What went wrong with a request, in batchrun's errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from batchrun.core.errors import HttpStatusError, InvalidValue, NodeError, QuotaExhausted, ResponseError, TransportError
from batchrun.net.body import TooLarge, read_body

_EXCERPT_CHARACTERS = 300
_ERROR_BODY_BYTES = 65_536
# What services call it when there is nothing left to spend; waiting does not help then, whatever the status is.
_QUOTA = re.compile(rb'"(?:code|type|status)"\s*:\s*"(insufficient_quota|insufficient_balance|billing_[a-z_]+|credits?_exhausted)"')
_QUOTA_STATUSES = (400, 402, 403, 429)
_REDIRECTS = (301, 302, 303, 307, 308)  # of the others, none names an address to go to
_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")
# Raised before the first byte of the request is sent.
_BEFORE_SENDING = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_CANNOT_BE_SENT = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)


def describe(request: httpx.Request) -> str:
    """`POST http://host/path`: without user, password and query, which may hold secrets."""
    url = request.url
    return f"{request.method} {url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii').partition('?')[0]}"


def excerpt(body: bytes) -> str:
    """The beginning of a body in one line of at most 300 characters, control characters escaped."""
    # Four bytes a character is the most UTF-8 has.
    text = body[: 4 * _EXCERPT_CHARACTERS].decode("utf-8", "replace").strip()
    return _one_line(text)


def transport_error(request: httpx.Request, error: httpx.TransportError, *, idempotent: bool) -> NodeError:
    """The error for a request without a complete answer.

    It is ambiguous when the request may have reached the service and must not reach it twice.
    """
    message = f"{describe(request)} failed: {str(error) or type(error).__name__}"
    if isinstance(error, _CANNOT_BE_SENT):
        return InvalidValue(message)
    was_sent = not isinstance(error, _BEFORE_SENDING)
    return TransportError(message, ambiguous=was_sent and not idempotent, was_sent=was_sent)


def response_error(request: httpx.Request, response: httpx.Response, error: ResponseError) -> ResponseError:
    """The error for an answer whose body cannot be taken."""
    hint = "; raise max_response_bytes to take it" if isinstance(error, TooLarge) else ""
    return ResponseError(f"{describe(request)} answered {response.status_code}, but {error}{hint}")


async def status_error(request: httpx.Request, response: httpx.Response) -> HttpStatusError:
    """The error for an answer with a status that is not 2xx. Reads the beginning of the body."""
    answered = f"{describe(request)} answered {response.status_code}"
    if 300 <= response.status_code < 400:
        # A query is cut off: signed addresses carry their key there.
        target, _, query = response.headers.get("location", "").partition("?")
        where = f"it points to {_one_line(target)}{'?…' if query else ''}" if target else "it names no other address"
        failure = HttpStatusError(f"{answered}: redirects are not followed; {where}", response.status_code)
        failure.location = response.headers.get("location") if response.status_code in _REDIRECTS else None
        return failure
    try:
        start = await read_body(response, _ERROR_BODY_BYTES)
    except TooLarge as error:
        start = error.start
    except (ResponseError, httpx.TransportError):
        # The status says what happened; a body that cannot be read does not change it.
        start = b""
    text = excerpt(start)
    message = f"{answered}: {text}" if text else f"{answered} with an empty body"
    is_quota = response.status_code in _QUOTA_STATUSES and _QUOTA.search(start) is not None
    failure = (QuotaExhausted if is_quota else HttpStatusError)(message, response.status_code, retry_after_seconds(response.headers))
    failure.response_body = start
    return failure


def retry_after_seconds(headers: httpx.Headers) -> float | None:
    """How long the service asks to be left alone; null when it does not say, or says something unreadable.

    `retry-after-ms`, where there is one, is more exact than `Retry-After`. A date is compared with the service's own clock (its
    `Date` header) when it sends one.

    Example:
        >>> retry_after_seconds(httpx.Headers({"Retry-After": "120"}))
        120.0
    """
    exact, value = headers.get("retry-after-ms", "").strip(), headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(exact):
        return float(exact) / 1_000
    if _SECONDS.fullmatch(value):
        return float(value)
    until = date_of(value)
    if until is None:
        return None
    now = date_of(headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def date_of(text: str) -> datetime | None:
    """The time a header says; null when it says none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _one_line(text: str) -> str:
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: _EXCERPT_CHARACTERS + 1])
    return line if len(line) <= _EXCERPT_CHARACTERS else line[: _EXCERPT_CHARACTERS - 1] + "…"
