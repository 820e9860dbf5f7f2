"""Access to object stores: opening one, and saying what went wrong there.

Who may use them is said by the environment, in the variables that the tools of the stores use; a job has addresses only.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Literal

from batchrun.core.addresses import STORE_SETTINGS, Address

CHANGED = "it was replaced since the execution began; put it back, or run the job anew"
"""What is said of an object that is not the one that was found."""
NOT_INSTALLED = "needs the package obstore: pip install 'batchrun[cloud]'"
"""What is said of something that cannot be done without the library."""

_RETRY: dict[str, Any] = {"max_retries": 4}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_MAY_BE_SECRET = re.compile(r"(?<=://)[^/\s@]*@|\?\S*")  # who calls, and signatures, in the addresses that the library tells


class ObjectProblem(OSError):
    """An object cannot be listed, read or written. The message says why, and what to do; the address is not in it."""


class explaining:  # noqa: N801 - a context manager reads like a function
    """Turn what the library says about an object into an `ObjectProblem`.

    Args:
        url: the address of the object.
        does: what is done with it.
    """

    def __init__(self, url: str, does: Literal["read", "write to"] = "read") -> None:
        self._url, self._does = url, does

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not isinstance(error, ObjectProblem) and _is_of_library(error):
            raise ObjectProblem(_explained(self._url, error, self._does)) from error


def library() -> Any:
    """The library that speaks with object stores; it is installed."""
    return import_module("obstore")


def is_installed() -> bool:
    """Whether there is the library, which is an extra."""
    return find_spec("obstore") is not None


def store_of(url: str) -> Any:
    """The bucket of an address, for the functions of the library. Nothing is asked of it yet.

    Raises:
        ObjectProblem: the environment leads to no server. The library would not say so, but panic at the first request.
    """
    scheme, bucket, _ = Address.of(url)
    for name in _ENDPOINTS if scheme == "s3" else ():
        endpoint = os.environ.get(name, "")
        if endpoint and not re.match(r"https?://[^/]", endpoint):
            raise ObjectProblem(f"{name} in the environment must be an address such as https://127.0.0.1:9000, with http:// or https://")
        if endpoint.startswith("http://") and "AWS_ALLOW_HTTP" not in os.environ:
            raise ObjectProblem(f"{name} in the environment begins with http://: set AWS_ALLOW_HTTP=true to send requests unencrypted")
    return import_module("obstore.store").from_url(f"{scheme}://{bucket}", retry_config=_RETRY)


def _is_of_library(error: BaseException) -> bool:
    if type(error).__name__ == "PanicException":  # no class of a module, and no `Exception`
        return True
    exceptions = import_module("obstore.exceptions")
    return isinstance(error, exceptions.BaseError | FileNotFoundError | PermissionError | ConnectionError | TimeoutError | ValueError)


def _explained(url: str, error: BaseException, does: str) -> str:
    """What went wrong at an address, in one line, with what to do."""
    scheme, bucket, _ = Address.of(url)
    name, text = type(error).__name__, _MAY_BE_SECRET.sub("…", str(error).split("\n", 1)[0])
    status = next((code for code in ("401", "403", "404", "412") if f" {code} " in text), "")
    if name == "PreconditionError" or status == "412":
        return CHANGED
    if name == "NotFoundError" or isinstance(error, FileNotFoundError) or status == "404":
        return f'it does not exist in the bucket "{bucket}", or the bucket does not' if does == "read" else f'there is no bucket "{bucket}"'
    settings = STORE_SETTINGS[scheme]
    if isinstance(error, PermissionError) or name in {"UnauthenticatedError", "PermissionDeniedError"} or status:
        return f'the store does not let these credentials {does} the bucket "{bucket}"; they come from the environment: {settings}'
    return f"{text[:300].rstrip(' :')}; is the store reachable, and are its settings in the environment: {settings}?"
