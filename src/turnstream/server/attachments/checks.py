"""Checks of the images and documents that callers attach to a turn.

Their size is limited by the request body's limit.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.limits import LONGEST_TITLE, LONGEST_URL

MEDIA_TYPES = {
    "image": re.compile(r"image/(png|jpeg|gif|webp)"),
    "document": re.compile(r"application/(pdf|json|xml|yaml)|text/[a-z0-9.+-]{1,60}"),
}
_SHAPES = {
    "image": "{media_type, data} or {url}",
    "document": "{media_type, data}, {url} or {text}, and may have a title",
}
_FIELDS = {
    "image": ({"media_type", "data"}, {"url"}),
    "document": ({"media_type", "data"}, {"url"}, {"url", "media_type"}, {"text"}),
}
_INVISIBLE = r"\x00-\x20\x7f-\xa0\u2028\u2029"
URL_PATTERN = f"^[hH][tT][tT][pP][sS]?://[^/{_INVISIBLE}][^{_INVISIBLE}]*$"
"""Pattern of a web address. It has the same meaning in Python, JavaScript and other regular expressions."""
_URL = re.compile(URL_PATTERN)


def check_attachment(place: str, block_type: str, content: dict[str, Any]) -> None:
    """Raise InvalidRequest if `content` is not valid for an image or a document.

    `place` names it in the error.
    """
    fields = dict(content)
    title: Any = fields.pop("title", "") if block_type == "document" else ""
    fields.pop("provider_metadata", None)
    whole = all(isinstance(value, str) and value.strip() for value in fields.values())
    if set(fields) not in _FIELDS[block_type] or not whole:
        article = "an" if block_type == "image" else "a"
        raise InvalidRequest(f"{place}: {article} {block_type} needs content {_SHAPES[block_type]}")
    if not isinstance(title, str) or len(title) > LONGEST_TITLE:
        raise InvalidRequest(f"{place}: a title is text of at most {LONGEST_TITLE} characters")
    media_type = fields.get("media_type")
    if media_type is not None and not MEDIA_TYPES[block_type].fullmatch(media_type):
        raise InvalidRequest(
            f"{place}: models do not read the {block_type} type {media_type[:80]!r}: convert the file"
        )
    if "url" in fields:
        _check_url(place, block_type, fields["url"])
    elif "data" in fields:
        _check_base64(place, fields["data"])


def _check_url(place: str, block_type: str, url: str) -> None:
    """Raise InvalidRequest unless `url` is a web address or, for an image, a data URL."""
    head, comma, data = url.partition(";base64,")
    if comma and block_type == "image" and MEDIA_TYPES["image"].fullmatch(head.removeprefix("data:")):
        _check_base64(place, data)
    elif len(url) > LONGEST_URL or not _URL.fullmatch(url):
        raise InvalidRequest(f"{place}: url must be http:// or https://, of at most {LONGEST_URL} characters")


def _check_base64(place: str, data: str) -> None:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(
            f"{place}: data is not base64: encode the bytes of the file as base64"
        ) from error
