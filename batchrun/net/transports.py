"""What carries requests to a service: which library, through which proxy."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib import request as urllib_request

import httpx

from batchrun.core.connection import DIRECT, Connection, Tls, proxy_problem
from batchrun.core.job import Resource
from batchrun.net.connecting import tls_context
from batchrun.net.transport import KEEP_ALIVE_SECONDS, AiohttpTransport


def transport_to(resource: Resource) -> httpx.AsyncBaseTransport:
    """What carries requests to a service. Must be made on the event loop it is used on.

    HTTP/1.1 goes over aiohttp's connections. HTTP/2 goes over those of httpx: it needs few, and only many slow that down.
    """
    context = None if resource.tls == Tls() else tls_context(resource.tls)
    if not resource.http2:
        return AiohttpTransport(tls=context, proxy_of=proxy_for(resource))
    url = httpx.URL(resource.base_url)
    proxy = proxy_for(resource)(url.scheme, url.host)
    return httpx.AsyncHTTPTransport(
        verify=context or tls_context(resource.tls),
        http1=url.scheme == "https",  # there both sides choose; without TLS, the service must know what comes
        http2=True,
        proxy=None if proxy is None else httpx.Proxy(proxy),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEP_ALIVE_SECONDS),
        trust_env=False,
    )


def proxy_for(connection: Connection) -> Callable[[str, str], str | None]:
    """Says for a scheme and a host through which proxy it is reached; null: through none."""
    if connection.proxy is None:
        return proxy_of_environment
    proxy = None if connection.proxy == DIRECT else connection.proxy
    return lambda _scheme, _host: proxy


def proxy_of_environment(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a host; null for none. This machine itself is never reached through one.

    Raises:
        httpx.ProxyError: it is one that cannot be used.
    """
    proxies = urllib_request.getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all")
    is_excepted: Callable[..., bool] = urllib_request.proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed does not know it
    if not proxy or _is_loopback(host) or is_excepted(host, proxies):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    problem = proxy_problem(proxy)
    if problem:
        raise httpx.ProxyError(f"the proxy that the environment names for {scheme} {problem}")
    return proxy


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
