"""Answers that come in pages: which request asks for the next one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from batchrun.core.checks import at_least, problem, refuse
from batchrun.core.errors import AddressRefused, ResponseError
from batchrun.net.answers import Steps, steps_of, taken
from batchrun.net.failures import describe
from batchrun.net.parts import text_of

_LINK = re.compile(r"<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:\"[^\"]*\"|[^\s;,\"]*))?)*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"(?:[^\"]*\s)?next(?:\s[^\"]*)?\"|next(?=\s|;|$))", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """How a list comes that is answered in pages. The output is the whole list. Give one of cursor, number and link."""

    items: str | None = None
    """Path of the list in each answer, such as `data.items`; null: the answer is the list."""
    cursor: str | None = None
    """Path of what leads to the next page: a value for the query parameter `query`, or an address. Null or missing ends the list."""
    query: str | None = None
    """The query parameter that takes the cursor; null: the cursor is an address."""
    number: str | None = None
    """The query parameter that takes the number of the page. An empty page ends the list."""
    first: int = 1
    """The number of the first page; with a step other than 1, the first offset."""
    step: int = 1
    """What the number grows by: the size of a page where it is an offset."""
    link: bool = False
    """The next page is the one that the `Link` header calls `next`."""
    max_pages: int = 1_000
    """A list with more pages fails its item."""
    max_bytes: int = 64 * 2**20
    """So do pages that are larger than this together, decompressed."""

    def __post_init__(self) -> None:
        ways = [name for name in ("cursor", "number", "link") if getattr(self, name)]
        paths = {name: path for name in ("items", "cursor") if (path := getattr(self, name)) is not None and steps_of(path) is None}
        refuse(
            at_least(1, max_pages=self.max_pages, max_bytes=self.max_bytes, step=self.step),
            problem("link", f"give one of cursor, number and link; got {' and '.join(ways) or 'nothing'}" if len(ways) != 1 else None),
            problem("query", "takes a cursor; give its path under cursor" if self.query is not None and self.cursor is None else None),
            *(problem(name, f"is not a path such as data.items[0]: {path!r}") for name, path in paths.items()),
        )


class PageTurner:
    """The pages of one list.

    Args:
        pages: how they come.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._items: Steps = steps_of(pages.items) or () if pages.items is not None else ()
        self._cursor: Steps = steps_of(pages.cursor) or () if pages.cursor is not None else ()
        self._seen: set[str] = set()
        self._number = pages.first
        self.found: list[Any] = []

    def first(self, request: httpx.Request) -> httpx.URL:
        """The address of the first page."""
        url = request.url if self._pages.number is None else _with_query(request.url, self._pages.number, str(self._number))
        self._seen.add(str(url))
        return url

    def turn(self, request: httpx.Request, headers: httpx.Headers, answer: Any) -> httpx.URL | None:
        """Take the items of a page, and say where the next one is; null: there is none.

        Raises:
            ResponseError: there is no list where one should be, or the pages go in a circle.
            AddressRefused: the next page is on another host.
        """
        items = taken(answer, self._items, request)
        if not isinstance(items, list | None):
            raise ResponseError(f"{describe(request)}: {self._pages.items or 'the answer'} is not a list, but {type(items).__qualname__}")
        self.found += items or []
        url = self._next(request, headers, answer, is_empty=not items)
        if url is None:
            return None
        if str(url) in self._seen:
            raise ResponseError(f"{describe(request)}: the pages go in a circle, one leads to another that was there before")
        self._seen.add(str(url))
        return url

    def _next(self, request: httpx.Request, headers: httpx.Headers, answer: Any, *, is_empty: bool) -> httpx.URL | None:
        pages = self._pages
        if pages.number is not None:
            self._number += pages.step
            return None if is_empty else _with_query(request.url, pages.number, str(self._number))
        target = _linked(headers) if pages.link else self._cursor_of(answer)
        if target is None or target is False or target == "":
            return None
        if pages.query is not None:
            return _with_query(request.url, pages.query, text_of(target, "the cursor"))
        return _same_host(request, text_of(target, "the cursor"))

    def _cursor_of(self, answer: Any) -> Any:
        value = answer
        for step in self._cursor:
            if isinstance(value, Mapping):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
                value = value[step]
            else:
                return None  # services leave it out on the last page
        return value


def _linked(headers: httpx.Headers) -> str | None:
    for target, parameters in _LINK.findall(", ".join(headers.get_list("link"))):
        if _NEXT.search(parameters):
            return str(target)
    return None


def _same_host(request: httpx.Request, target: str) -> httpx.URL:
    try:
        url = request.url.join(target).copy_with(fragment=None)
    except httpx.InvalidURL as error:
        raise ResponseError(f"{describe(request)}: what leads to the next page is not an address") from error
    if (url.scheme, url.netloc) != (request.url.scheme, request.url.netloc) or url.userinfo:
        raise AddressRefused(f"{describe(request)}: the next page is on another host, {url.scheme}://{url.netloc.decode('ascii')}")
    return url


def _with_query(url: httpx.URL, name: str, value: str) -> httpx.URL:
    """An address with one query parameter set; the others stay as they are written."""
    key = quote(name, safe="")
    others = [part for part in url.query.decode("ascii").split("&") if part and part.partition("=")[0] not in (key, name)]
    return url.copy_with(query="&".join([*others, f"{key}={quote(value, safe='')}"]).encode("ascii"))
