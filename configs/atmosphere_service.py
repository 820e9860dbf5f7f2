"""A small HTTP service for http_service.yaml: the air over a runway. Like real services, it is now and then not up to it.

It refuses some airports on their first call (429 with Retry-After, or 503), always the same ones, and answers 422 above
its highest elevation. Start it alone with `python configs/atmosphere_service.py 8765`.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

from quickstart_airports import runway_air

HIGHEST_FT = 13_000


class AtmosphereServer(ThreadingHTTPServer):
    """Serves `GET /airports/<icao>/air?elevation_ft=<number>` on a loopback port; port 0 takes a free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.base_url = f"http://127.0.0.1:{self.server_port}"
        self._seen: set[str] = set()
        self._lock = Lock()

    def refusal(self, icao: str) -> tuple[int, dict[str, str]] | None:
        """Status and headers to refuse this call with; null when it is served. Only the first call for an airport is ever refused."""
        with self._lock:
            if icao in self._seen:
                return None
            self._seen.add(icao)
        match zlib.crc32(icao.encode()) % 40:
            case 0:
                return 429, {"Retry-After": "1"}
            case 1:
                return 503, {}
            case _:
                return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it, the second packet of each answer waits for the client to acknowledge the first.
    disable_nagle_algorithm = True
    server: AtmosphereServer

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match url.path.split("/"):
            case ["", "airports", icao, "air"]:
                self._answer_air(icao, parse_qs(url.query).get("elevation_ft", [""])[0])
            case _:
                self._answer(404, {"error": f"no such path: {url.path}"})

    def _answer_air(self, icao: str, elevation: str) -> None:
        if refusal := self.server.refusal(icao):
            status, headers = refusal
            self._answer(status, {"error": "try again"}, headers)
            return
        try:
            elevation_ft = float(elevation)
        except ValueError:
            self._answer(422, {"error": f"elevation_ft must be a number, got {elevation!r}"})
            return
        if elevation_ft > HIGHEST_FT:
            self._answer(422, {"error": f"elevation_ft must be ≤ {HIGHEST_FT}, got {elevation_ft:g}"})
        else:
            self._answer(200, runway_air(elevation_ft))

    def _answer(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, *_: object) -> None:
        """Say nothing: the run prints its own progress."""


@contextmanager
def serving() -> Iterator[str]:
    """Serve on a free loopback port while the block runs; gives the base URL."""
    with AtmosphereServer() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server.base_url
        finally:
            server.shutdown()


def main() -> None:
    """Serve on the port given as the argument until interrupted."""
    with AtmosphereServer(int(sys.argv[1])) as server:
        print(f"serving on {server.base_url}; stop with Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
