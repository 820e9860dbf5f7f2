"""Reading bodies: any chunks, any compression, and never more memory than allowed."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.errors import ResponseError
from batchrun.net.body import TooLarge, read_body

MIB = 2**20


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def several_members(data: bytes) -> bytes:
    return gzip.compress(data[:1]) + gzip.compress(b"") + gzip.compress(data[1:])


class Chunks(httpx.AsyncByteStream):
    def __init__(self, data: bytes, size: int) -> None:
        self.data = data
        self.size = size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), self.size):
            yield self.data[start : start + self.size]


def answer(data: bytes, coding: str, size: int = 65_536) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Encoding": coding} if coding else {}, stream=Chunks(data, size))


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("", bytes),
    ("identity", bytes),
    ("GZip", gzip.compress),
    ("x-gzip", several_members),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


@given(data=st.binary(max_size=500), size=st.integers(1, 600), coding=st.sampled_from(CODINGS))
async def test_every_coding_in_every_chunking_gives_the_body_back(
    data: bytes, size: int, coding: tuple[str, Callable[[bytes], bytes]]
) -> None:
    """The network cuts bodies anywhere, so nothing may depend on where."""
    name, compress = coding
    assert await read_body(answer(compress(data), name, size), max_bytes=len(data)) == data


@pytest.mark.parametrize("coding", CODINGS[2:], ids=["gzip", "gzip members", "zlib", "raw deflate"])
async def test_a_bomb_is_refused_without_using_its_memory(coding: tuple[str, Callable[[bytes], bytes]]) -> None:
    """A few hundred kilobytes from a broken or hostile service must not take the machine down."""
    name, compress = coding
    bomb = compress(bytes(32 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="more than 1048576 bytes"):
            await read_body(answer(bomb, name), max_bytes=MIB)
        assert tracemalloc.get_traced_memory()[1] < 5 * MIB
    finally:
        tracemalloc.stop()


async def test_a_body_of_the_largest_size_is_taken_and_a_larger_one_is_not() -> None:
    """The limit means what it says, to the byte."""
    assert await read_body(answer(b"12345", ""), max_bytes=5) == b"12345"
    for response in (answer(b"123456", "", size=2), httpx.Response(200, stream=httpx.ByteStream(b"123456"))):
        with pytest.raises(TooLarge) as refused:
            await read_body(response, max_bytes=5)
        assert refused.value.start == b"12345"


@pytest.mark.parametrize(("data", "coding"), [(b"plain", ""), (gzip.compress(b"plain", mtime=0), "gzip"), (b"", "gzip"), (b"", "")])
async def test_a_body_that_is_here_already_is_read_as_any_other(data: bytes, coding: str) -> None:
    """Small answers come with their headers, and take a shorter way."""
    headers = [(b"Content-Encoding", coding.encode())] if coding else []
    response = httpx.Response(200, headers=headers, stream=httpx.ByteStream(data))
    assert await read_body(response, max_bytes=MIB) == (b"plain" if data else b"")


@pytest.mark.parametrize(
    ("data", "coding", "message"),
    [
        (gzip.compress(b"text", mtime=0)[:-1], "gzip", "cut off"),
        (b"not compressed", "gzip", "not valid gzip"),
        (gzip.compress(b"text", mtime=0) + b"trailing", "gzip", "not valid gzip"),
        (zlib.compress(b"text") + b"trailing", "deflate", "after the end"),
        (b"\x1b", "br", "'br'; what can be read is gzip, deflate"),
        (gzip.compress(gzip.compress(b"text", mtime=0), mtime=0), "gzip, gzip", "'gzip, gzip'"),
    ],
)
async def test_broken_compression_is_an_error_and_never_half_a_body(data: bytes, coding: str, message: str) -> None:
    """A result made of half an answer would look like a whole one."""
    with pytest.raises(ResponseError, match=message):
        await read_body(answer(data, coding), max_bytes=MIB)


async def test_an_empty_body_needs_no_compression() -> None:
    """Answers to HEAD name the compression of a body they do not have."""
    assert await read_body(answer(b"", "gzip"), max_bytes=MIB) == b""
