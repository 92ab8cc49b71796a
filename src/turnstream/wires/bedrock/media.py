"""Bedrock's names of image and document formats, their media types, and bytes that arrive in pieces."""

from __future__ import annotations

import base64
import binascii

_IMAGES = ("png", "jpeg", "gif", "webp")
_DOCUMENTS = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
_MEDIA_TYPES = {**{name: f"image/{name}" for name in _IMAGES}, **_DOCUMENTS}
_FORMATS = {media_type: name for name, media_type in _MEDIA_TYPES.items()} | {"image/jpg": "jpeg"}


def media_type_of(format_name: str, family: str) -> str:
    """Return the media type of a format.

    An unknown format keeps its name, in `family`: `image` or `application`.
    """
    return _MEDIA_TYPES.get(format_name) or f"{family}/{format_name}"


def format_of(media_type: str) -> str:
    """Return the format of a media type, which may have parameters. An unknown one gives its subtype."""
    kind = media_type.partition(";")[0].strip().lower()
    return _FORMATS.get(kind) or kind.rpartition("/")[2].removeprefix("x-")


class Base64Pieces:
    """Bytes that arrive in pieces. Each piece is base64."""

    def __init__(self) -> None:
        self._first: str | None = None
        self._decoded: list[bytes] = []

    def add(self, piece: str) -> None:
        """Add a piece. Raises ValueError if this piece, or the one before it, is not base64."""
        if self._first is None:
            self._first = piece
        else:
            first = [] if self._decoded else [_decoded(self._first)]
            self._decoded += [*first, _decoded(piece)]

    def whole(self) -> str:
        """Return the base64 of all bytes. A single piece is returned unchanged."""
        return base64.b64encode(b"".join(self._decoded)).decode() if self._decoded else self._first or ""


def _decoded(piece: str) -> bytes:
    try:
        return base64.b64decode(piece, validate=True)
    except binascii.Error as error:
        raise ValueError(f"bytes are not base64: {error}") from error
