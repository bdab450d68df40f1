"""A file server on this machine, and models registered with a source there."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import pytest

from napari_sam.model import registry
from napari_sam.model.hashing import FileHash
from napari_sam.model.registry import ModelEntry


class FileServer(ThreadingHTTPServer):
    """Serves `content` at every address, and misbehaves on demand.

    Attributes
    ----------
    status : int
        Anything but 200 is the answer to every request.
    ranges : bool
        Answer a request for a part with the part; otherwise with the whole.
    break_after : int or None
        Close the connection after so many bytes.
    announce : bool
        Send the length.
    asked : list of str or None
        The Range header of each request.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.status = 200
        self.ranges = True
        self.break_after: int | None = None
        self.announce = True
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/weights.pt"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        total = len(server.content)
        if start >= total > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if server.announce:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.break_after])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    """Run a file server in a thread."""
    server = FileServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def register(
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    *,
    name: str = "local",
    architecture: str = "compact",
    url: str = "http://127.0.0.1:9/weights.pt",
    file_name: str = "local.pt",
    file_hash: FileHash | None = None,
) -> ModelEntry:
    """Register a model whose published file has `content`."""
    entry = ModelEntry(
        name=name,
        architecture=architecture,
        file_name=file_name,
        url=url,
        size_bytes=len(content),
        size_is_exact=True,
        file_hash=file_hash or FileHash("sha256", hashlib.sha256(content).hexdigest()),
        license="MIT",
        citation="Nobody",
        description="A model for tests",
    )
    models = MappingProxyType({**registry.MODELS, name: entry})
    for module in ("registry", "store", "checkpoints"):
        monkeypatch.setattr(f"napari_sam.model.{module}.MODELS", models)
    return entry
