"""Reading the body of an answer with a bound on memory, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TypeAlias, cast

import httpx

from batchrun.core.errors import ResponseError
from batchrun.net.messages import field_names, raw_headers

ACCEPT_ENCODING = "gzip, deflate"
"""The compressions that can be read."""

_GZIP = ("gzip", "x-gzip")
_PLAIN = ("", "identity")
_SHOWN = 60  # characters of what a service says, in a message
# Small, because what follows a finished gzip member is copied: thousands of empty members in one large slice would be slow.
_SLICE_BYTES = 16_384


ReadBody: TypeAlias = Callable[[httpx.Response, int], Awaitable[bytes]]
"""Reads the body of a response that is to have no more than so many bytes: see `read_body`."""


class TooLarge(ResponseError):
    """An answer is larger than the caller takes. `start` holds the first `max_bytes` of it."""

    def __init__(self, max_bytes: int, start: bytes) -> None:
        super().__init__(f"the body has more than {max_bytes} bytes")
        self.start = start


async def read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """The whole decompressed body of a response whose stream was not read yet.

    Memory stays below twice `max_bytes` plus one chunk from the network, also when a small body decompresses to a huge one.

    Raises:
        TooLarge: the body has more than `max_bytes`, decompressed.
        ResponseError: the body is compressed in a way that cannot be read, or its compression is broken.
        httpx.TransportError: the connection broke or went silent.
    """
    if isinstance(response.stream, httpx.ByteStream) and b"content-encoding" not in field_names(response):  # all of it is here
        body = b"".join(response.stream)
        if len(body) > max_bytes:
            raise TooLarge(max_bytes, body[:max_bytes])
        return body
    taking, parts = _Taking(response, max_bytes), list[bytes]()
    async for chunk in cast("AsyncIterable[bytes]", response.stream):
        parts.append(taking.part(chunk))
        if taking.room < 0:
            raise TooLarge(max_bytes, b"".join(parts)[:max_bytes])
    taking.end()
    return b"".join(parts)


async def body_parts(response: httpx.Response, max_bytes: int) -> AsyncIterator[bytes]:
    """The decompressed body, part by part, none of them larger than `max_bytes` and a byte; as `read_body`."""
    taking = _Taking(response, max_bytes)
    # Not response.aiter_bytes(): that one decompresses without a bound.
    async for chunk in cast("AsyncIterable[bytes]", response.stream):
        yield taking.part(chunk)
        if taking.room < 0:
            raise TooLarge(max_bytes, b"")
    taking.end()


class _Taking:
    """A body that is being taken.

    Attributes:
        room: for how many more bytes there is room; negative: there are too many.
    """

    def __init__(self, response: httpx.Response, max_bytes: int) -> None:
        self._coding = _coding(response)
        self._decompressor = None if self._coding in _PLAIN else _Decompressor(self._coding)
        self.room = max_bytes

    def part(self, chunk: bytes) -> bytes:
        """What comes next, decompressed: at most a byte more than there is room for, if it was compressed."""
        part = chunk if self._decompressor is None else self._decompressor.feed(chunk, self.room + 1)
        self.room -= len(part)
        return part

    def end(self) -> None:
        """Nothing comes any more."""
        if self._decompressor is not None and self._decompressor.is_cut_off:
            raise ResponseError(f"the {self._coding} body is cut off")


def _coding(response: httpx.Response) -> str:
    if b"content-encoding" not in field_names(response):
        return ""
    found = [value for name, value in raw_headers(response) if name.lower() == b"content-encoding"]
    return b",".join(found).decode("latin-1").strip().lower()


class _Decompressor:
    """One body's worth of gzip or deflate."""

    def __init__(self, coding: str) -> None:
        if coding not in (*_GZIP, "deflate"):
            raise ResponseError(
                f"the body is compressed as {coding[:_SHOWN]!r}; what can be read is {ACCEPT_ENCODING}, so ask for that in Accept-Encoding"
            )
        self._coding = coding
        self._stream: zlib._Decompress | None = None

    @property
    def is_cut_off(self) -> bool:
        return self._stream is not None and not self._stream.eof

    def feed(self, data: bytes, max_bytes: int) -> bytes:
        """The next decompressed bytes. As soon as there are `max_bytes` of them, the rest is given up."""
        found = bytearray()
        try:
            for start in range(0, len(data), _SLICE_BYTES):
                rest = data[start : start + _SLICE_BYTES]
                while rest and len(found) < max_bytes:
                    stream = self._open(rest[0])
                    found += stream.decompress(rest, max_bytes - len(found))
                    rest = stream.unused_data
        except zlib.error as error:
            raise ResponseError(f"the body is not valid {self._coding}: {error}") from error
        return bytes(found)

    def _open(self, first_byte: int) -> zlib._Decompress:
        if self._stream is None or self._stream.eof:
            if self._coding in _GZIP:
                window_bits = 31
            elif self._stream is None:
                # "deflate" means zlib, yet some services send it without the zlib header, whose low four bits are always 8.
                window_bits = 15 if first_byte & 0x0F == 8 else -15
            else:
                raise ResponseError("there is data after the end of the deflate body")
            self._stream = zlib.decompressobj(window_bits)
        return self._stream
