"""Digests of conversations. The same conversation has the same digest in every protocol that resends it.

A conversation is a sequence of entries. The digest of a path is a chain: each entry is digested with the
digest of the path before it. So the time to compute it depends on the turn, not on the history before it.

    the user's message        its tool results, one entry each: id of the call, and text
                              then one entry: texts and media, in order
    the assistant's message   one entry: its text, the calls that the client answers, its media

  - The text of adjacent blocks is joined: blocks are not visible in every protocol. Of a message's text, the
    white space at both ends does not count, and a CR LF counts as LF. Any other character counts.
  - A call is its id, its tool's name and its arguments. In JSON, the order of keys does not count, and
    numbers are those of JavaScript (RFC 8785), because many clients decode and encode them.
  - An image or document is the digest of its bytes, or its URL.
  - Thinking, signatures, vendor fields, citations, calls that ran here and their results do not count: some
    protocols do not show them. System prompts do not belong to a conversation.
  - A message in which nothing counts has no entry: the answer that failed without text, for example.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, cast

import msgspec

from turnstream.core.admission import repair_text
from turnstream.core.blocks import Block, Content

NO_TURNS = ""
"""Digest of the empty conversation."""
DIGEST_LENGTH = 32
"""Hexadecimal digits of a digest."""

_TEXTS = frozenset({"text", "reference", "partial_reference"})
_MEDIA = frozenset({"image", "document"})
_LARGEST_INTEGER = 2**53


def path_digest(before: str, entries: Iterable[str]) -> str:
    """Return the digest of the path with the digest `before`, continued by `entries`."""
    digest = before
    for entry in entries:
        digest = _digest(f"{digest} {entry}".encode())
    return digest


def entries_of(role: str, blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return the digests of a message's entries, at most one of an assistant's message."""
    forms = _forms_of_user(blocks) if role == "user" else _forms_of_assistant(blocks)
    return tuple(_digest(msgspec.json.encode(form)) for form in forms)


def _forms_of_user(blocks: Sequence[Block]) -> Iterator[list[Any]]:
    """Yield the normal forms of a user's message. A form is JSON."""
    parts: list[tuple[str, str]] = []
    texts: list[str] = []
    for block in blocks:
        content = block.content or {}
        if block.block_type == "tool_result" and not content.get("provider_executed"):
            yield ["result", _call_id(content), _normal(_result_text(block))]
        elif block.block_type in _TEXTS:
            texts.append(block.text_content or "")
        elif block.block_type in _MEDIA:
            parts += _text_part(texts)
            texts.clear()
            parts.append(("media", _media(content)))
    parts += _text_part(texts)
    if parts:
        yield ["user", parts]


def _forms_of_assistant(blocks: Sequence[Block]) -> Iterator[list[Any]]:
    """Yield the normal form of an assistant's message, if anything in it counts."""
    answered = Counter(_call_id(block.content or {}) for block in blocks if block.block_type == "tool_result")
    texts: list[str] = []
    calls: list[tuple[str, str, str]] = []
    media: list[str] = []
    for block in blocks:
        content = block.content or {}
        if block.block_type in _TEXTS:
            texts.append(block.text_content or "")
        elif block.block_type in _MEDIA:
            media.append(_media(content))
        elif block.block_type == "tool_use" and not (block.partial or content.get("provider_executed")):
            identity = _call_id(content)
            if answered[identity]:
                answered[identity] -= 1
            else:
                calls.append((identity, str(content.get("tool_name") or ""), _arguments(content)))
    text = _normal("".join(texts))
    if text or calls or media:
        yield ["assistant", text, calls, media]


def _text_part(texts: Sequence[str]) -> list[tuple[str, str]]:
    text = _normal("".join(texts))
    return [("text", text)] if text else []


def _normal(text: str) -> str:
    text = repair_text(text)
    if "\r" in text:  # the search for two characters takes as long as the rest of a long text's digest
        text = text.replace("\r\n", "\n")
    return text.strip()


def _call_id(content: Content) -> str:
    return repair_text(str(content.get("tool_use_id") or ""))


def _arguments(content: Content) -> str:
    """Return a call's arguments as canonical JSON, or as they are if they are not JSON."""
    value: Any = content.get("input")
    if value is None:
        text = str(content.get("input_json") or "")
        try:
            value = msgspec.json.decode(text) if text.strip() else {}
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return _normal(text)
    return canonical_json(value)


def _result_text(block: Block) -> str:
    value: Any = (block.content or {}).get("content")
    if value is None:
        return block.text_content or ""
    if isinstance(value, list):
        return "".join(_item_text(item) for item in cast("list[Any]", value))
    return value if isinstance(value, str) else canonical_json(value)


def _item_text(item: Any) -> str:
    match item:
        case {"type": "text", "text": str(text)}:
            return text
        case _:
            return canonical_json(item)


def _media(content: Content) -> str:
    """Return the digest of a medium's bytes, or its URL."""
    if isinstance(text := content.get("text"), str):
        return _digest(repair_text(text).encode())
    if isinstance(data := content.get("data"), str):
        return _digest(_decoded(data))
    url = repair_text(str(content.get("url") or ""))
    head, comma, data = url.partition(",")
    is_data = comma and head.lower().startswith("data:") and head.lower().endswith(";base64")
    return _digest(_decoded(data)) if is_data else url


def _decoded(data: str) -> bytes:
    """Return the bytes of base64 text, or the text itself if it is not base64."""
    plain = data.rstrip("=").encode("ascii", "replace")
    try:
        return b64decode(plain + b"=" * (-len(plain) % 4), b"-_" if b"-" in plain or b"_" in plain else None)
    except binascii.Error:
        return repair_text(data).encode()


def canonical_json(value: Any) -> str:
    """Return the text of a JSON value: keys are sorted, and numbers are those of JavaScript."""
    return msgspec.json.encode(_canonical(value), order="deterministic").decode()


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return repair_text(value)
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {repair_text(str(key)): _canonical(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in cast("list[Any]", value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    return value


def _number(value: float) -> float | str:
    """Return a number as a double, and whole doubles as integers."""
    try:
        number = float(value)
    except OverflowError:
        return str(value)
    if number.is_integer() and abs(number) < _LARGEST_INTEGER:
        return int(number)
    return number


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:DIGEST_LENGTH]
