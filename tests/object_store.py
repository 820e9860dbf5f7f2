"""Object stores on this machine, for tests: servers that speak as those of Amazon, Google and Azure do.

Google's is the server of Amazon's: for objects, their XML interfaces are alike, but for who may call, which is not asked here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import IO, Any, Literal

import obstore
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from obstore.store import AzureStore, GCSStore, S3Store

Scheme = Literal["s3", "gs", "az"]

SECRET = "canary-5e1f-secret-key"  # noqa: S105 - of a server that ends with the test
BUCKET = "data-bucket"
ACCOUNT = "account1"
ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT"}
"""The variables of the environment that lead to another server; the one for `gs` is in a file."""

_CLIENTS = Path(sys.prefix) / "clients"
_AZURITE = _CLIENTS / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """A running server, and a bucket of it.

    Attributes:
        endpoint: where it is.
        environment: the variables that lead to it.
        secret: what may be seen nowhere.
        scheme: of its addresses.
    """

    endpoint: str
    environment: dict[str, str] = field(repr=False)
    secret: str = field(default=SECRET, repr=False)
    scheme: Scheme = "s3"
    bucket: str = BUCKET

    @property
    def url(self) -> str:
        """The address of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def store(self) -> S3Store | GCSStore | AzureStore:
        keys = self.environment
        if self.scheme == "gs":
            return GCSStore(self.bucket, service_account=keys["GOOGLE_SERVICE_ACCOUNT"])
        if self.scheme == "az":
            options: dict[str, Any] = {"account_name": keys["AZURE_STORAGE_ACCOUNT_NAME"], "account_key": keys["AZURE_STORAGE_ACCOUNT_KEY"]}
            return AzureStore(self.bucket, endpoint=self.endpoint, client_options={"allow_http": True}, **options)
        chosen = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY", "region": "AWS_REGION"}
        options = {name: keys[variable] for name, variable in chosen.items()}
        return S3Store(self.bucket, endpoint=self.endpoint, client_options={"allow_http": True}, **options)

    def put(self, key: str, content: bytes | Callable[[io.BytesIO], Any]) -> str:
        """Write an object; returns its address."""
        buffer = io.BytesIO(content if isinstance(content, bytes) else b"")
        if not isinstance(content, bytes):
            content(buffer)
        obstore.put(self.store, key, buffer.getvalue())
        return f"{self.url}/{key}"

    def get(self, key: str) -> bytes:
        return bytes(obstore.get(self.store, key).bytes())

    def keys(self) -> list[str]:
        return sorted(each["path"] for page in obstore.list(self.store) for each in page)


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a server as Amazon's on a free port of the loopback interface."""
    with _moto(BUCKET) as endpoint:
        keys = {"AWS_ACCESS_KEY_ID": "AKIATESTS", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        yield ObjectStore(endpoint=endpoint, environment={**keys, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"})


@contextmanager
def google_store(folder: Path) -> Iterator[ObjectStore]:
    """Run a server as Google's; its service account is written to a folder."""
    bucket = "databucket"  # Google's addresses have %2D for -, which the server does not take for one
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    with _moto(bucket) as endpoint:
        account = folder / "service-account.json"
        told = {"gcs_base_url": endpoint, "client_email": "tests@example.com", "private_key": private, "private_key_id": "1"}
        account.write_text(json.dumps(told))
        environment = {"GOOGLE_SERVICE_ACCOUNT": str(account)}
        yield ObjectStore(scheme="gs", endpoint=endpoint, environment=environment, secret=private.split("\n")[3], bucket=bucket)


@contextmanager
def azure_store() -> Iterator[ObjectStore]:
    """Run a server as Azure's; skips the test where there is no node."""
    if shutil.which("node") is None:
        pytest.skip("node is missing: apt-get install nodejs npm")
    assert _AZURITE.exists(), "the object store is not installed: make test installs it from tests/clients/azurite"
    key = base64.b64encode(SECRET.encode() * 3).decode()
    options = [
        "--blobHost",
        "127.0.0.1",
        "--blobPort",
        "0",
        "--inMemoryPersistence",
        "--disableTelemetry",
        "--skipApiVersionCheck",
        "--silent",
    ]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("AZURE")}
    command = ["node", str(_AZURITE), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**quiet, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}) as server:
        try:
            assert server.stdout is not None
            endpoint = f"http://127.0.0.1:{_port(server.stdout, 'listens on http')}/{ACCOUNT}"
            _make_container(endpoint, key)
            keys = {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": key}
            environment = {**keys, "AZURE_STORAGE_ENDPOINT": endpoint, "AZURE_ALLOW_HTTP": "true"}
            yield ObjectStore(scheme="az", endpoint=endpoint, environment=environment, secret=key)
        finally:
            server.kill()


@contextmanager
def _moto(bucket: str) -> Iterator[str]:
    python = _CLIENTS / "moto" / "bin" / "python"
    assert python.exists(), "the object store is not installed: make test installs it from tests/clients/moto.txt"
    command = [str(python), "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", "0"]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=quiet) as server:
        try:
            assert server.stderr is not None
            endpoint = f"http://127.0.0.1:{_port(server.stderr, 'Running on http')}"
            with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{bucket}", method="PUT")):  # noqa: S310 - a fixed address
                yield endpoint
        finally:
            server.kill()


def _port(lines: IO[str], before: str) -> str:
    found = next((match for line in lines if (match := re.search(rf"{before}://127\.0\.0\.1:(\d+)", line))), None)
    assert found is not None, "the object store does not start"
    return found[1]


def _make_container(endpoint: str, key: str) -> None:
    """Make the bucket, which only requests with the account's signature may."""
    headers = {"Content-Length": "0", "x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
    told = f"x-ms-date:{headers['x-ms-date']}\nx-ms-version:2023-11-03\n/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    signed = hmac.new(base64.b64decode(key), f"PUT{chr(10) * 12}{told}".encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    request = urllib.request.Request(f"{endpoint}/{BUCKET}?restype=container", headers=headers, method="PUT")  # noqa: S310 - a fixed address
    with urllib.request.urlopen(request):  # noqa: S310
        pass
