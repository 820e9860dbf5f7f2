"""A fast service on the loopback interface, in a process of its own: nginx where it is installed, else granian."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.model import BenchmarkError

_ANSWER = b'{"label": "bug", "score": 0.5}'
_NGINX = """\
daemon off; master_process off; error_log stderr crit; pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; return 200 '{answer}'; }} }}
}}
"""


async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """What granian serves."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": _ANSWER})


def service_name() -> str | None:
    """Which program serves; null: none is installed."""
    if shutil.which("nginx"):
        return "nginx"
    return "granian" if find_spec("granian") else None


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """The address of the service, for as long as it is entered.

    Raises:
        BenchmarkError: there is no program that serves, or it does not answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    name = service_name()
    if name == "nginx":
        config = folder / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port, answer=_ANSWER.decode()), encoding="utf-8")
        command = ["nginx", "-c", str(config), "-p", str(folder)]
    elif name == "granian":
        options = ["--interface", "asginl", "--port", str(port), "--no-ws", "--log-level", "error"]
        command = [sys.executable, "-m", "granian", *options, "benchmarks.service:app"]
    else:
        raise BenchmarkError("a fast service is missing: apt install nginx-light, or pip install 'batchrun[bench]'")
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], start_new_session=True)
    try:
        _await_answer(name, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _await_answer(name: str, port: int) -> None:
    for _ in range(200):
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise BenchmarkError(f"{name} does not answer")
