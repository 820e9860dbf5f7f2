"""What went wrong between here and a service, in the errors of httpx."""

from __future__ import annotations

import os
import socket
import ssl

import aiohttp
import httpx


def as_httpx(error: Exception, request: httpx.Request | None = None) -> httpx.TransportError:
    """The httpx error that says what happened. Its text never holds the address, whose query may hold secrets."""
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        # asyncio puts the address into its messages; the number says it better.
        reason: str | None
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted, {cause.verify_message}; tls.ca_file names an authority of your own"
        elif isinstance(cause, ssl.SSLError | socket.gaierror) or not cause.errno:
            reason = cause.strerror
        else:
            reason = os.strerror(cause.errno)
        return httpx.ConnectError(f"cannot connect to {error.host}:{error.port}: {reason or cause}", request=request)
    if isinstance(error, aiohttp.ClientOSError) or _is_of_the_system(error):
        if isinstance(error.__cause__, aiohttp.ClientConnectionResetError):
            return httpx.WriteError("the connection broke while the request was sent", request=request)
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return httpx.ReadError(f"the connection broke: {reason}", request=request)
    for kind, mapped, text in _MAPPED:
        if isinstance(error, kind):
            return mapped(text or str(error), request=request)
    if isinstance(error, aiohttp.ClientResponseError):
        # What follows the colon is the malformed data itself.
        return httpx.RemoteProtocolError(f"the answer is not valid HTTP: {error.message.partition(':')[0]}", request=request)
    if type(error) is aiohttp.ClientConnectionError and error.__cause__ is not None:
        # What gives the body failed. The text of aiohttp holds the proxy, password included.
        return httpx.WriteError(f"the request could not be sent in full: {error.__cause__}", request=request)
    return httpx.ReadError(str(error), request=request)


def _is_of_the_system(error: Exception) -> bool:
    return isinstance(error, OSError) and bool(error.errno) and not isinstance(error, aiohttp.ClientError)


_MAPPED: tuple[tuple[type[Exception], type[httpx.TransportError], str], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout, "no connection in time"),
    (TimeoutError, httpx.ReadTimeout, "the service was silent for too long"),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "the service closed the connection without an answer"),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError, "the answer broke off before its end"),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError, "the proxy refused the connection"),
    (aiohttp.ClientConnectionResetError, httpx.WriteError, "the connection broke while the request was sent"),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol, "only http and https can be used"),
    (aiohttp.InvalidURL, httpx.LocalProtocolError, "the host is not valid"),
    (ValueError, httpx.LocalProtocolError, ""),
)
