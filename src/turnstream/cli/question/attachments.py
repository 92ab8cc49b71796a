"""Attachments of a question, as `-a FILE`, `-a URL` or `-a -`."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from turnstream.core.blocks import Block
from turnstream.errors import ConfigurationError

MOST_BYTES = 14 * 1024 * 1024
"""Bytes of all attached files together. In base64 they fit in the body of a request."""
_URL = re.compile(r"https?://", re.IGNORECASE)
_IMAGE_NAMES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})
_IMAGES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
)
"""Beginnings of files, and their types. The name of a file does not count: it may be wrong or missing."""
_PDF = b"%PDF-"


def attached(names: Iterable[str], *, first: int) -> Iterator[Block]:
    """Yield the blocks of attachments.

    Images and PDFs become their bytes, texts their text. The server or the provider reads a URL.

    Args:
        names: paths of files, URLs, and `-` for standard input.
        first: number of the first block.

    Raises ConfigurationError if a file cannot be read, is too large, or has a type that models do not read.
    """
    left = MOST_BYTES
    for number, name in enumerate(names, first):
        if _URL.match(name):
            yield Block(number, _kind_of_url(name), None, {"url": name})
            continue
        data = _read(name, left)
        left -= len(data)
        yield _file_block(number, name, data)


def _kind_of_url(url: str) -> Literal["image", "document"]:
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    return "image" if suffix in _IMAGE_NAMES else "document"


def _read(name: str, limit: int) -> bytes:
    """Return the bytes of a file, or of standard input for `-`."""
    try:
        if name == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(
            f"-a {name}: the file cannot be read ({error.strerror}): correct the path"
        ) from error
    if len(data) > limit:
        raise ConfigurationError(
            f"-a {name}: all attachments together may have {MOST_BYTES // 1024**2} MiB: give a URL instead"
        )
    return data


def _file_block(number: int, name: str, data: bytes) -> Block:
    title = "standard input" if name == "-" else Path(name).name
    for beginning, media_type in _IMAGES:
        if beginning.match(data):
            return Block(number, "image", None, {"media_type": media_type, "data": _base64(data)})
    if data.startswith(_PDF):
        content = {"media_type": "application/pdf", "data": _base64(data), "title": title}
        return Block(number, "document", None, content)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ConfigurationError(
            f"-a {name}: models read PNG, JPEG, GIF, WebP, PDF and UTF-8 text: convert the file"
        )
    if not text.strip():
        raise ConfigurationError(f"-a {name}: the file is empty: give another file")
    return Block(number, "document", None, {"text": text, "title": title})


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
