"""How a service is connected to: protocol, proxy, certificates, timeouts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from batchrun.core.checks import above, problem, refuse

DIRECT = "direct"
"""Stands for no proxy, whatever the environment says."""

_PROXY = re.compile(r"https?://[^/?#\s]+/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificates. Paths are relative to the job file; the files are in PEM form."""

    ca_file: str | None = None
    """The authorities that are trusted, in the place of those of the system."""
    client_certificate: str | None = None
    """What is shown to services that ask who calls: a certificate, with those between it and its authority."""
    client_key: str | None = None
    """Its private key; null: it is in the same file."""
    client_key_password: str | None = None
    """What the key is encrypted with; may refer to `{{ secrets.NAME }}`."""
    verify: bool = True
    """Whether the service must prove who it is. With false anybody on the way can read and change what is sent, secrets included;
    each validation and each run says so."""

    def __post_init__(self) -> None:
        is_alone = self.client_certificate is None
        refuse(
            problem("client_key", "belongs to a client_certificate; give that too" if is_alone and self.client_key else None),
            problem("client_key_password", "belongs to a client_certificate; give that" if is_alone and self.client_key_password else None),
            problem(
                "ca_file", "is never looked at with verify: false; leave one of them out" if self.ca_file and not self.verify else None
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each phase of a request may take; null: as long as the attempt. Waiting for a turn is no phase: it has no limit."""

    connect_seconds: float | None = 10.0
    """Until there is a connection: looking up the host, proxy and TLS included."""
    write_seconds: float | None = None
    """The longest the service may take no more of a request, of those with more than a mebibyte."""
    read_seconds: float | None = None
    """The longest silence while an answer is awaited or read."""

    def __post_init__(self) -> None:
        names = ("connect_seconds", "write_seconds", "read_seconds")
        refuse(above(0, **{name: getattr(self, name) for name in names}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How a service is connected to."""

    http2: bool = False
    """Speak HTTP/2; needs `batchrun[http2]`. With https, a service that only knows HTTP/1.1 gets that; with http, it must know HTTP/2."""
    proxy: str | None = None
    """The proxy it is reached through, `http://host:port`, which may refer to `{{ secrets.NAME }}`; direct: none; null: what HTTPS_PROXY,
    HTTP_PROXY, ALL_PROXY and NO_PROXY in the environment say."""
    tls: Tls = Tls()
    """Certificates."""
    timeouts: Timeouts = Timeouts()
    """How long each phase of a request may take."""

    def __post_init__(self) -> None:
        refuse(problem("proxy", proxy_problem(self.proxy) if self.proxy is not None and "{{" not in self.proxy else None))


def proxy_problem(proxy: str) -> str | None:
    """What is wrong with the address of a proxy, else null. Never shows it: it may hold a password."""
    if proxy == DIRECT or _PROXY.fullmatch(proxy):
        return None
    return "must be http://host:port or https://host:port, or direct for none; SOCKS proxies cannot be used"
