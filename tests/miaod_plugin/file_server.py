"""A server on this machine for the tests of downloads, as honest or as mad as a test wants it."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves `files`, with Range; each of the first `cuts` answers ends after `cut_at` bytes of its body.

    With `raw`, a function of the ``Range`` asked for, what it yields is the answer, status line and all.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.requests: list[str | None] = []
        self.cuts, self.cut_at, self.ranges = 0, 1000, True
        self.raw: Callable[[str | None], Iterable[bytes]] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                content = outer.files.get(self.path.rpartition("/")[2])
                wanted = self.headers.get("Range")
                outer.requests.append(wanted)
                if outer.raw is not None:
                    with suppress(ConnectionError):  # the client has heard enough
                        for chunk in outer.raw(wanted):
                            self.wfile.write(chunk)
                    return
                if content is None:
                    self.send_error(404)
                    return
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and outer.ranges else 0
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                cut = outer.cuts > 0
                outer.cuts -= cut
                self.wfile.write(content[start : start + outer.cut_at] if cut else content[start:])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
