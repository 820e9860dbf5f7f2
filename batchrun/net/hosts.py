"""Hosts that item data may name: only those the job allows, and never one inside the network.

A name that is allowed may still lead to an address of this machine or its network, by mistake or because its owner wants
that. So names are looked up here, and connections go to the addresses that were checked.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

import httpx
from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

from batchrun.core.errors import AddressRefused

_ENTRY = re.compile(r"(?:\*|(?:\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(?::\d{1,5})?")
USUAL_PORTS = {"http": 80, "https": 443}
"""The port of each scheme that addresses need not name."""
_MAPS_IPV4 = ipaddress.IPv6Network("64:ff9b::/96")  # translated to IPv4 by some networks


def host_problem(entry: str) -> str | None:
    """What is wrong with an entry of `allow_hosts`, else null."""
    if _ENTRY.fullmatch(entry.lower()):
        return None
    return f"must be a host such as files.example.com, *.example.com or files.example.com:8443, got {entry!r}"


class AllowedHosts:
    """The hosts that item data may name.

    Args:
        entries: `files.example.com`; `*.example.com` for all below it; `*` for all; each with `:port` where it is not the
            usual one. An IP address that is spelled out is taken as it is; all else must lead to public addresses.

    Example:
        >>> AllowedHosts(["*.example.com"]).check(httpx.URL("https://files.example.com/a.pdf"))
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = tuple(entry.lower() for entry in entries)

    def check(self, url: httpx.URL) -> None:
        """Refuse an address whose host is not allowed. Names are looked up later, by `PublicResolver`.

        Raises:
            AddressRefused: it is not.
        """
        host, is_usual = url.host.lower().rstrip("."), url.port in (None, USUAL_PORTS.get(url.scheme))
        written = f"[{host}]" if ":" in host else host
        names = {f"{written}:{url.port or USUAL_PORTS.get(url.scheme)}"} | ({written} if is_usual else set())
        if names.intersection(self._entries) and _as_address(host) is not None:
            return
        if not any(_matches(entry, name) for entry in self._entries for name in names):
            allowed = ", ".join(self._entries) or "none"
            raise AddressRefused(f"the host {url.netloc.decode('ascii')} is not one that allow_hosts names: {allowed}")
        address = _as_address(host)
        if address is not None and not is_public(address):
            raise AddressRefused(f"{host} is an address inside the network, which allow_hosts must name as such")

    def __bool__(self) -> bool:
        return bool(self._entries)


class PublicResolver(AbstractResolver):
    """Looks hosts up and refuses those that lead inside the network. Must be made on the event loop it is used on."""

    def __init__(self) -> None:
        self._system = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            AddressRefused: one of them is not public.
            OSError: the host is not known.
        """
        found = await self._system.resolve(host, port, family)
        for each in found:
            address = _as_address(each["host"])
            if address is None or not is_public(address):
                raise AddressRefused(f"the host {host} leads to {each['host']}, an address inside the network")
        return found

    async def close(self) -> None:
        """Nothing is held."""


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the public internet. What maps to IPv4 is judged by what it maps to.

    Example:
        >>> is_public(ipaddress.ip_address("::ffff:127.0.0.1"))
        False
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _MAPS_IPV4:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _matches(entry: str, name: str) -> bool:
    if not entry.startswith("*"):
        return entry == name
    host, port = _cut(name)
    below, wanted_port = _cut(entry[1:])
    return port == wanted_port and host.endswith(below)


def _cut(name: str) -> tuple[str, str]:
    """A host and its port."""
    found = re.fullmatch(r"(.*?)(?::(\d+))?", name)
    return (found[1], found[2] or "") if found else (name, "")
