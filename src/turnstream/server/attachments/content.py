"""The bytes of an image or a document in a block, for a browser that shows it by its address."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, NamedTuple
from unicodedata import category
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from turnstream.core.blocks import Block
from turnstream.errors import NotFound
from turnstream.store.base import BlockRecord

_SHOWN = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""Types that a browser shows without running anything. All other types are downloads."""
_SUFFIXES = {
    "application/json": "json",
    "application/pdf": "pdf",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "text/plain": "txt",
}
_MAX_NAME = 120
"""Characters of the title in the name of a download."""
_HEADERS = {
    "Cache-Control": "private, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class StoredFile(NamedTuple):
    """An image or a document as bytes.

    Attributes:
        media_type: A type of `_SUFFIXES`, or application/octet-stream.
        data: The bytes.
        title: Name that the client gave the file, or None.
    """

    media_type: str
    data: bytes
    title: str | None = None


def stored_file(block: Block) -> StoredFile:
    """Return the image or the document of a block. Raises NotFound if the block holds no bytes of one."""
    content: dict[str, Any] = block.content or {}
    if block.block_type in ("image", "document"):
        media_type, data = content.get("media_type"), content.get("data")
        url, title = content.get("url"), content.get("title")
        title = title if isinstance(title, str) else None
        if data is None and isinstance(url, str) and url.startswith("data:"):
            head, _, data = url.partition(";base64,")
            media_type = head.removeprefix("data:")
        if isinstance(data, str):
            try:
                return StoredFile(_safe_type(media_type), base64.b64decode(data, validate=True), title)
            except (binascii.Error, ValueError) as error:
                raise NotFound(
                    "the stored content of this block is not readable: send the file again"
                ) from error
        if isinstance(content.get("text"), str):
            return StoredFile("text/plain", content["text"].encode(), title)
    raise NotFound("this block holds no image or document: list the blocks with /turns/{id}/blocks")


def without_data(row: BlockRecord) -> BlockRecord:
    """Return the row of a block without the data of its image or document. `content.size` has their bytes."""
    block = row.block
    content: dict[str, Any] = block.content or {}
    if block.block_type not in ("image", "document"):
        return row
    data, url = content.get("data"), content.get("url")
    in_address = isinstance(url, str) and url.startswith("data:")
    if isinstance(url, str) and in_address:
        head, _, data = url.partition(";base64,")
        content = {**content, "media_type": head.removeprefix("data:")}
    if not isinstance(data, str):
        return row
    left = {
        name: value
        for name, value in content.items()
        if name != "data" and not (in_address and name == "url")
    }
    left["size"] = len(data) * 3 // 4 - data[-2:].count("=")
    return msgspec.structs.replace(row, block=msgspec.structs.replace(block, content=left))


def file_response(file: StoredFile, name: str) -> Response:
    """Return the answer with a file. `name`: the name of a download without a title, without its suffix."""
    shown = "inline" if file.media_type in _SHOWN else "attachment"
    suffix = _SUFFIXES.get(file.media_type, "bin")
    disposition = f'{shown}; filename="{name}.{suffix}"'
    if title := _file_name(file.title or "", suffix):
        disposition += f"; filename*=UTF-8''{quote(title, safe='')}"
    media_type = "text/plain; charset=utf-8" if file.media_type == "text/plain" else file.media_type
    headers = {**_HEADERS, "Content-Disposition": disposition}
    # Starlette would add a charset to other text types.
    return Response(file.data, headers={**headers, "Content-Type": media_type})


def _file_name(title: str, suffix: str) -> str:
    """Return a title as the name of a file with a suffix, or an empty text."""
    shown = "".join(sign for sign in title if not category(sign).startswith("C"))
    name = re.split(r"[/\\]", shown)[-1].strip(" .")[:_MAX_NAME]
    # The suffix decides what a computer does with the file: the title does not.
    return name if not name or name.lower().endswith(f".{suffix}") else f"{name}.{suffix}"


def _safe_type(media_type: object) -> str:
    if not isinstance(media_type, str):
        return "application/octet-stream"
    if media_type in _SUFFIXES:
        return media_type
    return "text/plain" if media_type.startswith("text/") else "application/octet-stream"
