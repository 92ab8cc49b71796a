"""The files of the built page, as a browser gets them.

The build writes them into the folder `built`, each with a compressed copy (`.br`, `.gz`). Their names have a
hash of their content, except `index.html`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

logger = logging.getLogger(__name__)

BUILT = Path(__file__).with_name("built")
"""Folder with the built page. It is missing in a checkout until `make page`."""
INDEX = "index.html"
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
"""Content codings, the smallest first, and the suffixes of the files with them."""
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Else a browser looks up the host of each link in an answer.
    "X-DNS-Prefetch-Control": "off",
}


class PageFile(NamedTuple):
    """A file of the page.

    Attributes:
        contents: The bytes by content coding. "identity" is the file itself.
        etag: A strong entity tag.
    """

    name: str
    contents: Mapping[str, bytes]
    etag: str


class BuiltPage:
    """The files of a built page, by their addresses below the page's own."""

    def __init__(self, files: Mapping[str, PageFile]) -> None:
        self._files = files

    @classmethod
    def load(cls, folder: Path = BUILT) -> BuiltPage | None:
        """Return the page in `folder`, or None, with a line in the log, if it is not built."""
        if not (folder / INDEX).is_file():
            logger.info("the page is not built: / shows a plain page. `make page` builds it in a checkout")
            return None
        names = (path for path in sorted(folder.rglob("*")) if path.suffix in _MEDIA_TYPES)
        return cls({path.relative_to(folder).as_posix(): _read(path, folder) for path in names})

    def answer(self, request: Request, name: str = INDEX) -> Response | None:
        """Return the answer with a file, or None if the page has no such file."""
        file = self._files.get(name)
        if file is None:
            return None
        headers = {**_HEADERS, "ETag": file.etag, "Vary": "Accept-Encoding"}
        headers["Cache-Control"] = "no-cache" if name == INDEX else "public, max-age=31536000, immutable"
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        accepted = _accepted(request.headers.get("accept-encoding", ""))
        coding = next((name for name, _ in _ENCODINGS if name in accepted & file.contents.keys()), "identity")
        if coding != "identity":
            headers["Content-Encoding"] = coding
        content = file.contents[coding]
        return Response(content, headers=headers, media_type=_MEDIA_TYPES[Path(file.name).suffix])


def _read(path: Path, folder: Path) -> PageFile:
    content = path.read_bytes()
    contents = {"identity": content}
    for coding, suffix in _ENCODINGS:
        compressed = path.with_name(path.name + suffix)
        if compressed.is_file():
            contents[coding] = compressed.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return PageFile(path.relative_to(folder).as_posix(), contents, f'"{digest}"')


def _accepted(header: str) -> set[str]:
    """Return the content codings that a client accepts."""
    codings: set[str] = set()
    for part in header.lower().split(","):
        name, _, options = part.partition(";")
        if options.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            codings.add(name.strip())
    return codings
