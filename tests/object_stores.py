"""Small object stores on this machine, for tests: one that can be told to fail, in the ways that S3 does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

Refusal = tuple[int, str]
"""Status and code of an answer that refuses."""


@dataclass
class SmallStore:
    """An S3 server with one bucket, ``bucket``, that keeps objects in memory.

    Args:
        objects: key -> bytes.
        uploads: key of every upload that was begun and not completed.
        refuse: told method, path and query of a request; returns how to refuse it, or None.
        requests: what was asked, as ``GET /bucket/key``.
        served: bytes of objects that were sent.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    refuse: Callable[[str, str, dict[str, list[str]]], Refusal | None] = lambda method, path, query: None
    requests: list[str] = field(default_factory=list)
    served: int = 0

    def __enter__(self) -> SmallStore:
        store = self

        class Handler(_Handler):
            pass

        Handler.store = store
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment of a command that uses it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: SmallStore

    def log_message(self, *said: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return _without_signatures(found) if "aws-chunked" in self.headers.get("Content-Encoding", "") else found

    def _handle(self) -> None:
        body = self._body() if self.command in {"PUT", "POST"} else b""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        path = unquote(parts.path)
        self.store.requests.append(f"{self.command} {self.path}")
        refusal = self.store.refuse(self.command, path, query)
        bucket, _, key = path.lstrip("/").partition("/")
        if refusal is None and bucket != "bucket":
            refusal = 404, "NoSuchBucket"
        if refusal is not None:
            status, code = refusal
            self._answer(status, f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode())
            return
        getattr(self, f"_{self.command.lower()}")(key, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

    def _head(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        if key in self.store.objects:
            size = str(len(self.store.objects[key]))
            self._answer(200, Content_Length=size, Last_Modified="Fri, 02 Jan 2026 03:04:05 GMT", ETag='"e"')
        else:
            self._answer(404 if key else 200)

    def _get(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        if not key:
            self._list(query)
        elif key not in self.store.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
        else:
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            content = self.store.objects[key]
            found = content[int(first) : int(last) + 1 if last else None]
            self.store.served += len(found)
            self._answer(206, found, Content_Range=f"bytes {first}-{int(first) + len(found) - 1}/{len(content)}")

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix = query.get("prefix", [""])[0]
        keys = [key for key in sorted(self.store.objects) if key.startswith(prefix)]
        listed = "".join(
            f"<Contents><Key>{quote(key)}</Key><Size>{len(self.store.objects[key])}</Size>"
            "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            for key in keys
        )
        text = f"<ListBucketResult><KeyCount>{len(keys)}</KeyCount><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
        self._answer(200, text.encode(), Content_Type="application/xml")

    def _post(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        if "uploads" in query:
            self.store.uploads[key] = {}
            self._answer(200, b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>")
        elif key not in self.store.uploads:
            self._answer(404, b"<Error><Code>NoSuchUpload</Code><Message>aborted</Message></Error>")
        else:
            sent = self.store.uploads.pop(key)
            self.store.objects[key] = b"".join(sent[number] for number in sorted(sent))
            self._answer(200, b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")

    def _put(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        if "partNumber" in query:
            if key not in self.store.uploads:
                self._answer(404, b"<Error><Code>NoSuchUpload</Code><Message>aborted</Message></Error>")
                return
            self.store.uploads[key][int(query["partNumber"][0])] = body
        else:
            self.store.objects[key] = body
        self._answer(200, ETag='"e"')

    def _delete(self, key: str, query: dict[str, list[str]], body: bytes) -> None:
        self.store.objects.pop(key, None)
        self._answer(204)


def _without_signatures(body: bytes) -> bytes:
    """Return what is in the chunks of AWS's own encoding, inside those of HTTP."""
    found = b""
    while body:
        head, _, rest = body.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if not size:
            break
        found, body = found + rest[:size], rest[size + 2 :]
    return found
