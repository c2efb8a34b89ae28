"""A film on an HTTP server that breaks off, by a server which gives parts, or only claims to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebFilm:
    """What is served at `url`, and what was asked for: the first byte of each request.

    breaks   how many replies break off, each after so much of the whole: ``share``
    parts    whether the server gives parts; later: whether it still does so after the first reply
    sized    whether it says how long the film is
    chunked  whether it sends it in chunks; a reply that breaks off lacks the last one
    """

    data: bytes
    breaks: int = 0
    share: float = 0.6
    parts: bool = True
    later: bool = True
    sized: bool = True
    chunked: bool = False
    url: str = ""
    asked: list[int] = field(default_factory=list)

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        begin = int((handler.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        self.asked.append(begin)
        first = len(self.asked) == 1
        partly = self.sized and self.parts and (first or self.later)
        body = self.data[begin if partly else 0 :]
        handler.send_response(206 if partly else 200)
        if partly:
            handler.send_header("Accept-Ranges", "bytes")
            handler.send_header("Content-Range", f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}")
        if self.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        elif self.sized:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        whole = len(self.asked) > self.breaks
        sent = body if whole else body[: int(self.share * len(self.data))]
        if self.chunked:
            sent = b"%x\r\n%b\r\n" % (len(sent), sent) + b"0\r\n\r\n" * whole
            handler.close_connection = True
        handler.wfile.write(sent)


@contextmanager
def served(film: WebFilm) -> Iterator[WebFilm]:
    """Serve `film` on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if film.chunked else "HTTP/1.0"

        def do_GET(self) -> None:
            film.reply(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    film.url = f"http://127.0.0.1:{server.server_port}/film.ts"
    try:
        yield film
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
