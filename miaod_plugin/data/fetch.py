"""One file from the net: downloaded with resumption, verified, and never trusted to say the truth about itself."""

import errno
import hashlib
import http.client
import os
import shutil
import stat
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from ..errors import ConfigError, DataError, shown
from .archives import CHUNK, Report

ATTEMPTS = 5  # connections in a row that bring less than CHUNK bytes before giving up
PAUSE = 0.2  # seconds after the first of them, doubled after each
LARGEST = 1 << 36  # bytes; COCO's largest archive has 19 GB
REDIRECTS = 5
DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}  # not the net's fault


def fetch(url: str, path: Path, md5: str, report: Report) -> Path:
    """Download a file unless it is there, going on with what an earlier call left, and verify it.

    Raises
    ------
    ConfigError
        If the URL is none of http or https.
    DataError
        If the server cannot be reached, breaks off again and again or answers nonsense, the MD5 sum differs, or
        something else lies where the file belongs.
    """
    _check_url(url)
    part = path.with_name(path.name + ".part")
    try:
        # A link to an archive elsewhere is as good as the archive; writing through one is not.
        if (os.path.lexists(path) and not path.is_file()) or (os.path.lexists(part) and not _is_plain(part)):
            raise DataError(f"{path}: it, or {part.name}, is a folder or a link, no download; move it away")
        if path.exists():
            if (found := _md5(path, report)) != md5:
                raise DataError(f"{path}: MD5 sum {found} instead of {md5}; delete the file and download it again")
            return path
        _receive(url, part, report)
        if (found := _md5(part, report)) != md5:
            part.unlink()
            raise DataError(f"{url}: MD5 sum {found} instead of {md5}; the file was deleted, download it again")
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{part}: cannot be written: {error.strerror or error}") from None
    return path


def _receive(url: str, part: Path, report: Report) -> None:
    """Complete `part`, with as many connections as it takes."""
    failures, progress = 0, _size(part)
    while True:
        try:
            if _append(url, part, report):
                return
            reason = "the connection was cut"
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in DISK:
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        # What is lost and downloaded again is no progress: a server could go on like that for ever.
        if _size(part) >= progress + CHUNK:
            failures, progress = 0, _size(part)
        failures += 1
        if failures >= ATTEMPTS:
            raise DataError(f"{url}: {reason} after {_size(part)} bytes; the same command goes on from there")
        time.sleep(PAUSE * 2 ** (failures - 1))


def _append(url: str, part: Path, report: Report) -> bool:
    """Append to `part` what it lacks; return whether it is complete."""
    have = _size(part)
    try:
        response = _open(url, {"Range": f"bytes={have}-"} if have else {})
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            reason = " ".join(str(error.reason).split())
            raise DataError(f"{url}: the server answers {error.code} {shown(reason)[1:-1]}") from None
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True
        part.unlink()  # longer than the file on the server
        return False
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends the whole file
        length = _content_length(url, response)
        free = shutil.disk_usage(part.parent).free
        if length is not None and length > free:
            raise DataError(f"{part.parent}: no room for {url}: {length / 1e9:.1f} GB are missing")
        total = 0 if length is None else have + length
        limit = total or min(LARGEST, have + free // 2)
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                have += len(chunk)
                if have > limit:
                    part.unlink()
                    raise DataError(f"{url}: more than {limit / 1e9:.1f} GB; that is not the file")
                file.write(chunk)
                report(f"download {part.stem}", have, total)
    return not total or have == total


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Open a URL, following redirections: urllib would read their bodies, however long, and follow them to ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler),
        *(urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor),
    ):
        opener.add_handler(handler())
    asked = url
    for _ in range(REDIRECTS + 1):
        try:
            response = opener.open(urllib.request.Request(asked, headers=headers), timeout=30)
        except urllib.error.HTTPError as error:
            location = error.headers.get("Location")
            if error.code not in (301, 302, 303, 307, 308) or location is None:
                raise
            error.close()
            asked = _redirected(url, asked, location)
        except (ValueError, http.client.InvalidURL) as error:
            if asked != url:
                raise DataError(f"{url}: the server redirects to {shown(asked)}: {error}") from None
            raise ConfigError(f"{url}: not a URL that can be opened ({error})") from None
        else:
            if response.status in (200, 206):
                return response
            response.close()
            raise DataError(f"{url}: the server answers {response.status}, not the file")
    raise DataError(f"{url}: the server redirects more than {REDIRECTS} times")


def _redirected(url: str, asked: str, location: str) -> str:
    try:
        target = urllib.parse.urljoin(asked, urllib.parse.quote(location, safe=string.punctuation))
        _check_url(target)
    except ValueError:  # a ConfigError is one
        raise DataError(f"{url}: the server redirects to {shown(location)}, no http or https URL") from None
    return target


def _check_url(url: str) -> None:
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{url}: not an http or https URL")


def _content_length(url: str, response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdecimal() and len(length) <= 18):
        raise DataError(f"{url}: the server says Content-Length: {shown(length)}; that is no number of bytes")
    return None if length is None else int(length)


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path, report: Report) -> str:
    digest, done, total = hashlib.md5(usedforsecurity=False), 0, _size(path)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            report(f"verify {path.stem}", done, total)
    return digest.hexdigest()
