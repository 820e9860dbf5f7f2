"""Which hosts item data may name."""

from __future__ import annotations

import ipaddress

import httpx
import pytest

from batchrun.core.errors import AddressRefused
from batchrun.net.hosts import AllowedHosts, PublicResolver, host_problem, is_public


@pytest.mark.parametrize(
    ("entry", "address", "is_allowed"),
    [
        ("files.example.com", "https://files.example.com/x", True),
        ("Files.Example.com", "https://FILES.example.com./x", True),
        ("files.example.com", "https://files.example.com:8443/x", False),
        ("files.example.com:8443", "https://files.example.com:8443/x", True),
        ("files.example.com:443", "https://files.example.com/x", True),
        ("example.com", "https://files.example.com/x", False),
        ("*.example.com", "https://files.example.com/x", True),
        ("*.example.com", "https://example.com/x", False),
        ("*.example.com", "https://badexample.com/x", False),
        ("*.example.com", "https://files.example.com.evil.org/x", False),
        ("*", "http://anything.org/x", True),
        ("*", "http://anything.org:8080/x", False),
        ("*", "http://8.8.8.8/x", True),
        ("*", "http://10.0.0.1/x", False),
        ("*", "http://[::1]/x", False),
        ("10.0.0.1", "http://10.0.0.1/x", True),
        ("[::1]:80", "http://[::1]/x", True),
    ],
)
def test_an_entry_allows_what_it_says_and_no_more(entry: str, address: str, *, is_allowed: bool) -> None:
    """Suffixes, ports and addresses are where such lists leak."""
    assert host_problem(entry) is None
    allowed = AllowedHosts([entry])
    if is_allowed:
        allowed.check(httpx.URL(address))
    else:
        with pytest.raises(AddressRefused):
            allowed.check(httpx.URL(address))


@pytest.mark.parametrize("entry", ["", "http://a.org", "a.org/x", "*a.org", "a.*", "**", "a b", "a.org:", "user@a.org"])
def test_entries_that_are_no_hosts_are_told(entry: str) -> None:
    """One that can never match would refuse every item."""
    assert host_problem(entry) is not None


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.1.2.3", "224.0.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1"),
    ],
)
def test_addresses_inside_the_network_are_not_public(address: str) -> None:
    """Also those that are written in another way, or lead there through a translation."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    """Refusing what is allowed would make the list useless."""
    assert is_public(ipaddress.ip_address(address))


async def test_a_name_that_leads_inside_is_refused_when_it_is_looked_up() -> None:
    """The owner of a name decides where it leads, and may change that at any time."""
    with pytest.raises(AddressRefused, match="localhost leads to"):
        await PublicResolver().resolve("localhost")
