"""A server on loopback that serves small files, well or badly."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = b"<!DOCTYPE html><html><body>Too many users have viewed or downloaded this file recently.</body></html>"
QUOTA = b"<!-- Another page. --><html><body>Quota exceeded.</body></html>"  # known as a page by its type only


@dataclass
class Request:
    """What was asked for, and how much of it was sent."""

    path: str
    encodings: str
    range: str | None
    if_range: str | None
    sent: int = 0


class Server:
    """Files by path, and how each path is served.

    good: with Range and If-Range.              no-range: always all of it.
    truncated: breaks off in the middle of the file, wherever the request begins.
    dies-halfway: so for the first request, then good.
    changes: so for the first request; then good, but another file.
    stalls: sends up to the middle of the file, and the rest when `go` is set or nobody asks any more.
    small-ranges: breaks off in the middle, and gives at most an eighth of the file per Range.
    wrong-ranges: breaks off in the middle, and begins every Range one byte too late.
    labelled: says that the file is compressed on the way, when it is so itself.
    broken: 503.        recovers: 503 for the first request, then good.
    html: a page.       redirects-to-html: to a page elsewhere.
    """

    def __init__(self, url: str):
        self.url = url
        self.files: dict[str, bytes] = {}
        self.how: dict[str, str] = {}
        self.requests: list[Request] = []
        self.validator = ("ETag", '"{}"')  # a header, filled in with the content's checksum; or None
        self.heeds_if_range = True
        self.go = threading.Event()

    @property
    def asked(self) -> list[str]:
        """Paths, in the order of the requests."""
        return [request.path for request in self.requests]

    def add(self, path: str, content: bytes, how: str = "good") -> str:
        """Serve `content` at `path`; returns its address."""
        self.files[path], self.how[path] = content, how
        return f"{self.url}/{path}"


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0].lstrip("/")
            request = Request(path, self.headers["Accept-Encoding"], self.headers["Range"], self.headers["If-Range"])
            server.requests.append(request)
            content, how = server.files.get(path), server.how.get(path)
            if path == "quota":
                return self.answer(request, 200, QUOTA, {"Content-Type": "text/html; charset=utf-8"})
            if content is None:
                return self.send_error(404)
            half = len(content) // 2
            end = half if how in ("truncated", "dies-halfway", "changes") else len(content)
            match how:
                case "broken":
                    return self.send_error(503)
                case "recovers":
                    server.how[path] = "good"
                    return self.send_error(503)
                case "html":
                    return self.answer(request, 200, HTML, {"Content-Type": "text/html"})
                case "redirects-to-html":
                    return self.answer(request, 302, b"", {"Location": f"{server.url}/quota"})
                case "dies-halfway":
                    server.how[path] = "good"
                case "changes":
                    server.how[path], server.files[path] = "good", content[::-1]
            name, pattern = server.validator or ("", "")
            validator = pattern.format(hashlib.md5(content).hexdigest())
            headers = {name: validator} if name else {}
            if how == "labelled":
                headers["Content-Encoding"] = "x-gzip"
            changed = server.heeds_if_range and request.if_range not in (validator, None)
            if how == "no-range" or not request.range or changed:
                end = half if how in ("small-ranges", "wrong-ranges") else end
                return self.answer(request, 200, content, headers, end, half)
            first = int(re.fullmatch(r"bytes=(\d+)-", request.range)[1]) + (how == "wrong-ranges")
            if first >= len(content):
                return self.answer(request, 416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
            last = min(first + len(content) // 8, len(content)) if how == "small-ranges" else len(content)
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
            return self.answer(request, 206, content[first:last], headers, max(0, end - first), max(0, half - first))

        def answer(self, request, status, content, headers, end=None, pause=0):
            """Announce all of `content` and send it up to `end`; one that stalls does so after `pause`."""
            self.send_response(status)
            for name, value in {**headers, "Content-Length": len(content)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            with suppress(ConnectionError):  # a client that was killed
                if server.how.get(request.path) == "stalls":
                    self.wfile.write(content[:pause])
                    request.sent, content, end = pause, content[pause:], None
                    server.go.wait(600)
                request.sent += len(content[:end])  # before, as the client may have gone on as soon as it has all
                self.wfile.write(content[:end])

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()
