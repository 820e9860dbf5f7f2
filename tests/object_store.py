"""An object store on this machine, for tests: a server that speaks as Amazon's S3 does."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import obstore
from obstore.store import S3Store

SECRET = "canary-5e1f-secret-key"  # noqa: S105 - of a server that ends with the test
BUCKET = "data-bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStore:
    """A running server, and a bucket of it."""

    endpoint: str
    environment: dict[str, str] = field(repr=False)
    bucket: str = BUCKET

    @property
    def store(self) -> S3Store:
        return S3Store(self.bucket, endpoint=self.endpoint, client_options={"allow_http": True}, **self._keys())

    def put(self, key: str, content: bytes | Callable[[io.BytesIO], Any]) -> str:
        """Write an object; returns its address."""
        buffer = io.BytesIO(content if isinstance(content, bytes) else b"")
        if not isinstance(content, bytes):
            content(buffer)
        obstore.put(self.store, key, buffer.getvalue())
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> bytes:
        return bytes(obstore.get(self.store, key).bytes())

    def keys(self) -> list[str]:
        return sorted(each["path"] for page in obstore.list(self.store) for each in page)

    def _keys(self) -> dict[str, str]:
        chosen = {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY", "region": "AWS_REGION"}
        return {name: self.environment[variable] for name, variable in chosen.items()}


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """Run a server on a free port of the loopback interface."""
    python = Path(sys.prefix) / "clients" / "moto" / "bin" / "python"
    assert python.exists(), "the object store is not installed: make test installs it from tests/clients/moto.txt"
    command = [str(python), "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", "0"]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=quiet) as server:
        try:
            assert server.stderr is not None
            endpoint = f"http://127.0.0.1:{_port(server.stderr)}"
            keys = {"AWS_ACCESS_KEY_ID": "AKIATESTS", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
            environment = {**keys, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}
            with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")):  # noqa: S310 - a fixed address
                yield ObjectStore(endpoint=endpoint, environment=environment)
        finally:
            server.kill()


def _port(lines: IO[str]) -> str:
    found = next((match for line in lines if (match := re.search(r"Running on http://127\.0\.0\.1:(\d+)", line))), None)
    assert found is not None, "the object store does not start"
    return found[1]
