"""A server on loopback that serves small files, well or badly."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HTML = b"<!DOCTYPE html><html><body>Too many users have viewed or downloaded this file recently.</body></html>"


class Server:
    """Files by path, and how each path is served: `good` unless `how[path]` says otherwise."""

    def __init__(self, url: str):
        self.url = url
        self.files: dict[str, bytes] = {}
        self.how: dict[str, str] = {}
        self.asked: list[str] = []  # paths, in the order of the requests

    def add(self, path: str, content: bytes, how: str = "good") -> str:
        """Serve `content` at `path`; returns its address."""
        self.files[path], self.how[path] = content, how
        return f"{self.url}/{path}"


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0].lstrip("/")
            server.asked.append(path)
            content, how = server.files.get(path), server.how.get(path)
            if content is None:
                return self.send_error(404)
            match how:
                case "broken":
                    return self.send_error(503)
                case "recovers":  # from the second request on
                    server.how[path] = "good"
                    return self.send_error(503)
                case "html":
                    content = HTML
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if how == "truncated":
                content = content[: len(content) // 2]
                self.close_connection = True
            self.wfile.write(content)
            if how == "stalls":
                time.sleep(3)
            return None

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
