"""Addresses of object stores: which there are, and what must not be in one."""

from __future__ import annotations

import re
from typing import NamedTuple

STORE_SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and AWS_ENDPOINT_URL for stores other than Amazon's",
    "gs": "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""The stores by their scheme, with the variables of the environment that say where they are and who may use them."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,19}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")


class Address(NamedTuple):
    """An address of an object store, in its parts.

    Attributes:
        scheme: a key of `STORE_SETTINGS`.
        bucket: the bucket or container.
        key: the rest, without slashes around it.
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def of(cls, url: str) -> Address:
        """The parts of an address that has no problem."""
        scheme, _, rest = url.partition("://")
        bucket, _, key = rest.partition("/")
        return cls(scheme, bucket, key.strip("/"))


def address_problem(url: str, example: str, others: str = "") -> str | None:
    """Why a text is not an address of an object store that may be stored; null when it is. What may be a secret is not shown.

    Args:
        url: the text.
        example: what may follow the bucket, for the message.
        others: what else is allowed in its place, for the message.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return f"must be an address such as s3://bucket/{example}"
    if scheme not in STORE_SETTINGS:
        known = ", ".join(f"{each}://" for each in STORE_SETTINGS)
        return f"{scheme}://… is not the address of an object store; allowed are {known}{others}"
    bucket = rest.partition("/")[0]
    if "@" in bucket:
        return f"credentials must not be in the address; they come from the environment: {STORE_SETTINGS[scheme]}"
    if not bucket:
        return f"{url} has no bucket; an address is {scheme}://bucket/{example}"
    return None


def folder_problem(url: str) -> str | None:
    """Why a text is not an address below which files can be written; null when it is."""
    if (wrong := address_problem(url, "folder")) is not None:
        return wrong
    address = Address.of(url)
    if "?" in url or "#" in url:  # such as the signature of a shared address, which is a credential
        return f"must have nothing after ? or #; who may write comes from the environment: {STORE_SETTINGS[address.scheme]}"
    if _UNFIT.search(url):
        return "must not have control characters or \\"
    if any(step in {"", ".", ".."} for step in address.key.split("/")) and address.key:
        return "must not have empty parts, . or .. between its slashes"
    return None
