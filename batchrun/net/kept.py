"""Connections that are kept between requests, and what aiohttp leaves open about them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Connector(aiohttp.TCPConnector):
    """Opens connections and keeps them.

    Args:
        options: as of any connector of aiohttp.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(_KeptConnection, loop=self._loop))


class _KeptConnection(ResponseHandler):
    """A connection that never gives a request the answer of another, and ends when it is to end."""

    def is_connected(self) -> bool:
        """Whether a request can be sent. After bytes that nobody has asked for, each would get the answer of the one before it."""
        return super().is_connected() and not self.should_close

    def close(self) -> None:
        """Close it, also when the service takes nothing: what is still to be written would keep it open for as long."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()


class Response(aiohttp.ClientResponse):
    """A response whose service may not be silent for longer after an interim one, such as early hints, where aiohttp stops counting."""

    _waits_for_interim: asyncio.Future[bool] | None = None

    @property
    def _continue(self) -> asyncio.Future[bool] | None:
        """What waits for an interim response. aiohttp asks for it at each of them and nowhere else, so that others cost nothing."""
        if self._writer is None and self._protocol is not None and not len(self._protocol):  # all is sent, and no more has come
            self._protocol.start_timeout()
        return self._waits_for_interim

    @_continue.setter
    def _continue(self, waits: asyncio.Future[bool] | None) -> None:
        self._waits_for_interim = waits
