"""The HTTP server of a backend: JSON in, JSON out, nothing else."""

import json
import logging
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..errors import ConfigError, DataError, MiaodError, one_line
from .backend import Backend

logger = logging.getLogger("miaod_plugin")

MOST_BYTES = 50_000_000  # of a request
SECONDS = 60.0  # to send one


def serve(backend: Backend, host: str = "127.0.0.1", port: int = 9090) -> ThreadingHTTPServer:
    """Return a server of a backend, which `serve_forever` lets answer; port 0 takes a free one.

    Whoever can reach it can annotate and train. Requests that are not ``application/json`` are refused, so that no page
    in a browser can send any.

    Raises
    ------
    ConfigError
        If the address cannot be listened on.
    """

    class Handler(_Handler):
        answers = backend

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: cannot be listened on: {error.strerror}; choose another port") from None
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    answers: Backend
    timeout = SECONDS
    server_version = "miaod"
    sys_version = ""

    def do_GET(self) -> None:
        name = self._name()
        if name in ("", "health"):
            self._send(HTTPStatus.OK, {"status": "UP", "model_class": "miaod"})
        elif name == "versions":
            self._answer(name, {})
        else:
            self._send(HTTPStatus.NOT_FOUND, {"error": "there is no such call"})

    def do_POST(self) -> None:
        if self.headers.get_content_type() != "application/json":
            self._send(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "send application/json"})
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or not 0 <= int(length) <= MOST_BYTES:
            self._send(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"send at most {MOST_BYTES:,} bytes"})
            return
        try:
            request = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            self._send(HTTPStatus.BAD_REQUEST, {"error": one_line(f"not well-formed JSON: {error}")})
            return
        if not isinstance(request, dict):
            self._send(HTTPStatus.BAD_REQUEST, {"error": "send a JSON object"})
            return
        self._answer(self._name(), request)

    def _name(self) -> str:
        return self.path.partition("?")[0].strip("/")

    def _answer(self, name: str, request: dict) -> None:
        try:
            answer = self.answers.answer(name, request)
        except MiaodError as error:
            logger.warning("%s: %s", name, error)
            self._send(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            return
        except OSError as error:  # a full or locked disk
            problem = str(DataError(f"{error.filename or 'output'}: {error.strerror}"))
            logger.error("%s: %s", name, problem)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": problem})
            return
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, {"error": "there is no such call"})
        else:
            self._send(HTTPStatus.OK, answer)

    def _send(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of what went well."""
