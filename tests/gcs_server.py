"""A Google Cloud Storage server with one bucket, ``bucket``, in memory; run as a process of its own, it prints its port.

pyarrow's files of GCS ask for their size without letting other threads run, so that a server in the same process never answers.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OBJECTS: dict[str, bytes] = {}
SESSIONS: list[tuple[str, bytearray]] = []
TIME = "2026-01-02T03:04:05.000Z"


class Handler(BaseHTTPRequestHandler):
    """The requests of pyarrow's client; ``GET /objects`` tells the names and sizes of all objects to a test."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *said: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> None:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"error": {"code": status, "message": message}})

    def _stated(self, name: str) -> dict[str, Any]:
        return {
            "kind": "storage#object", "name": name, "bucket": "bucket", "size": str(len(OBJECTS[name])), "generation": "1",
            "updated": TIME, "timeCreated": TIME,
        }  # fmt: skip

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        names = [unquote(name) for name in parts.path.split("/")]
        if parts.path == "/objects":
            self._answer(200, {name: len(content) for name, content in OBJECTS.items()})
        elif parts.path.startswith("/session/"):
            self._receive(int(names[2]), body)
        elif parts.path.startswith("/upload/"):
            SESSIONS.append((query["name"][0], bytearray()))
            self._answer(200, b"{}", Location=f"http://{self.headers['Host']}/session/{len(SESSIONS) - 1}")
        elif query.get("alt") == ["media"]:
            self._send("/".join(names[6:]))
        elif names[4] != "bucket":
            self._refuse(404, "The specified bucket does not exist.")
        elif len(names) == 5:
            self._answer(200, {"kind": "storage#bucket", "name": "bucket", "timeCreated": TIME, "updated": TIME})
        elif len(names) == 6:
            found = [self._stated(name) for name in OBJECTS if name.startswith(query.get("prefix", [""])[0])]
            self._answer(200, {"kind": "storage#objects", "items": found})
        elif names[6] == "secret":
            self._refuse(403, "somebody does not have storage.objects.get access")
        elif "/".join(names[6:]) in OBJECTS:
            self._answer(200, self._stated("/".join(names[6:])))
        else:
            self._refuse(404, "No such object")

    do_GET = do_PUT = do_POST = _handle

    def _receive(self, number: int, body: bytes) -> None:
        name, content = SESSIONS[number]
        content += body
        if self.headers["Content-Range"].endswith("/*"):
            self._answer(308, Range=f"bytes=0-{len(content) - 1}")
        else:
            OBJECTS[name] = bytes(content)
            self._answer(200, self._stated(name))

    def _send(self, name: str) -> None:
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        content = OBJECTS[name]
        found = content[int(first) : int(last) + 1 if last else None]
        place = f"bytes {first}-{int(first) + len(found) - 1}/{len(content)}"
        self._answer(206, found, Content_Range=place, X_Goog_Generation="1")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)  # noqa: T201
    server.serve_forever()
