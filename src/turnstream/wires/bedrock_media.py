"""Bedrock's names of image and document formats, and media types; bytes that come in pieces."""

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
    """The media type of a format; one that is not known keeps its name, in `family`: `image` or `application`."""
    return _MEDIA_TYPES.get(format_name) or f"{family}/{format_name}"


def format_of(media_type: str) -> str:
    """The format of a media type, which may have parameters; of one that is not known, its second half."""
    kind = media_type.partition(";")[0].strip().lower()
    return _FORMATS.get(kind) or kind.rpartition("/")[2].removeprefix("x-")


def join_base64(first: str, second: str) -> str:
    """The base64 of the bytes of both. Raises ValueError for what is not base64."""
    if not first:
        return second
    try:
        whole = base64.b64decode(first, validate=True) + base64.b64decode(second, validate=True)
    except binascii.Error as error:
        raise ValueError(f"bytes are not base64: {error}") from error
    return base64.b64encode(whole).decode()
