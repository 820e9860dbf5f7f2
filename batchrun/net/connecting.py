"""Connections as a job describes them, checked: through which proxy, with which certificates, in which protocol."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchrun.core.connection import Tls, proxy_problem
from batchrun.core.errors import Problem
from batchrun.core.job import Resource

_FILES = ("ca_file", "client_certificate", "client_key")


def located(resources: Mapping[str, Resource], folder: Path, report: Callable[[Problem], None]) -> dict[str, Resource]:
    """The resources with paths that start from the folder of the job, checked: one that cannot be connected to is told.

    Args:
        resources: with their templates filled in, by name.
        folder: of the job file.
        report: takes mistakes.
    """
    found = {}
    for name, resource in resources.items():
        paths: dict[str, Any] = {key: str(folder / path) for key in _FILES if (path := getattr(resource.tls, key)) is not None}
        found[name] = replace(resource, tls=replace(resource.tls, **paths)) if paths else resource
        for path, message in _problems(found[name]):
            report(Problem(("resources", name, *path), message))
    return found


def warnings_about(resources: Mapping[str, Resource]) -> Iterator[str]:
    """What people must know who run a job with these resources."""
    for name, resource in resources.items():
        if not resource.tls.verify:
            host = urlsplit(resource.base_url).hostname or "the service"
            yield (
                f"WARNING: resource {name} has tls.verify: false. Whoever is on the way to {host} can "
                "read and change what is sent, secrets included. Give tls.ca_file the certificate of its authority instead"
            )


def tls_context(tls: Tls) -> ssl.SSLContext:
    """What TLS connections are made with.

    Raises:
        OSError: a file cannot be read, or is not what it should be (`ssl.SSLError`).
    """
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.client_certificate is not None:
        # Null would make OpenSSL ask at the terminal.
        context.load_cert_chain(tls.client_certificate, tls.client_key, password=tls.client_key_password or "")
    return context


def _problems(resource: Resource) -> Iterator[tuple[tuple[str, ...], str]]:
    tls, wrong = resource.tls, False
    for key in _FILES:
        path = getattr(tls, key)
        if path is not None and not Path(path).is_file():
            wrong = True
            yield ("tls", key), f"there is no file {path}; relative paths start from the folder of the job file"
    if not wrong and tls != Tls():
        try:
            tls_context(replace(tls, client_certificate=None, client_key=None, client_key_password=None))
        except (OSError, ValueError) as error:
            yield ("tls", "ca_file"), f"{tls.ca_file} cannot be used: {_said(error)}; it must hold certificates in PEM form"
        else:
            try:
                tls_context(tls)
            except (OSError, ValueError) as error:
                hint = "it must hold a certificate in PEM form whose private key is there or under client_key"
                yield ("tls", "client_certificate"), f"{tls.client_certificate} cannot be used: {_said(error)}; {hint}"
    if resource.proxy is not None and (problem := proxy_problem(resource.proxy)):
        yield ("proxy",), problem
    if resource.http2 and find_spec("h2") is None:
        yield ("http2",), "needs the package h2: pip install 'batchrun[http2]'"


def _said(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
