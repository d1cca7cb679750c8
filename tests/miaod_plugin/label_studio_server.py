"""A real Label Studio on this machine, for tests: `make test-label-studio` installs it in an environment of its own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN, EMAIL = "0123456789abcdef0123456789abcdef01234567", "annotator@example.org"
SECONDS_TO_START = 180  # the first start makes its database


class LabelStudioServer:
    """Calls to the server's API."""

    def __init__(self, address: str):
        self.address = address

    def call(self, method: str, path: str, body=None) -> bytes:
        """Return what the server answers; a refusal fails with its text."""
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code}: {error.read()[:500]!r}") from None

    def get(self, path: str):
        return json.loads(self.call("GET", path))

    def post(self, path: str, body: dict | list):
        return json.loads(self.call("POST", path, body))

    def new_project(self, label_config: str, photos: Path) -> int:
        """Create a project that may show the photographs of a folder, and return its number."""
        project = self.post("/api/projects", {"title": "photographs", "label_config": label_config})["id"]
        self.post("/api/storages/localfiles", {"project": project, "path": str(photos), "use_blob_urls": True})
        return project

    def tasks(self, project: int) -> list[dict]:
        return self.get(f"/api/tasks?project={project}&fields=all&page_size=1000")["tasks"]


@contextmanager
def label_studio(folder: Path, files: Path) -> Iterator[LabelStudioServer]:
    """Run a server whose data is in `folder` and which may serve the files below `files`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files),
        "ML_BLOCK_LOCAL_IP": "false",  # or, since 1.23.2, no backend may be on this machine,
        "SSRF_PROTECTION_ENABLED": "false",  # and none on it is told of annotations
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
    }
    user = ["--username", EMAIL, "--password", "only-for-tests", "--user-token", TOKEN, "--enable-legacy-api-token"]
    command = [
        shutil.which("label-studio"),
        "start",
        "--no-browser",
        "--internal-host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [*command, *user], env=os.environ | own, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", folder / "server.log")
            yield LabelStudioServer(f"http://127.0.0.1:{port}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen, address: str, log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"Label Studio did not start: {log.read_text(errors='replace')[-2000:]}")
