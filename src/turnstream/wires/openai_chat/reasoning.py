"""Collects `reasoning_details` (OpenRouter, Snowflake), which must go back to the vendor unchanged, with
signatures and encrypted data.

They come in fragments, along with the reasoning's plain text or without it.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import Content
from turnstream.wires.shared.json_values import JsonObject, is_blank, is_object

_TEXT_FIELDS = {"reasoning.text": "text", "reasoning.summary": "summary"}
_UNNAMED_TEXT_FIELDS = ("text", "summary", "thinking", "content")
"""Text fields in details of unknown types."""
_NAMING_FIELDS = frozenset({"type", "format", "index", "id"})
_SIGNED_BY_ANTHROPIC = "anthropic"


class ReasoningDetails:
    """The details of one thinking block. Fragments of one text are joined."""

    def __init__(self) -> None:
        self._details: list[JsonObject] = []
        self._parts: list[str] = []
        self._field = ""
        self._name: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._details)

    def add(self, detail: JsonObject) -> str:
        """Add a fragment. Return its part of an Anthropic signature."""
        if self._is_more_text(detail):
            self._parts.append(detail[self._field])
            return ""
        field = _text_field(detail)
        last = self._details[-1] if self._details else None
        if last is None or field is None or not _continues(last, detail):
            self._join()
            last = {key: value for key, value in detail.items() if key not in (field, "signature")}
            self._details.append(last)
        if field is not None and isinstance(text := detail.get(field), str):
            self._parts.append(text)
        for key, value in detail.items():
            if key not in (field, "signature") and last.get(key) is None:
                last[key] = value
        self._field = field or ""
        self._name = _name(detail)
        return _sign(last, detail)

    def content(self) -> Content:
        """Return the content of the thinking block with all details."""
        self._join()
        return {"provider_metadata": {"reasoning_details": self._details}}

    def begins_another(self, details: list[JsonObject]) -> bool:
        """Return True if a text in `details` belongs to another thought than the collected one."""
        index = self._details[-1].get("index") if self._details else None
        for detail in details:
            other = detail.get("index")
            if other != index and isinstance(other, int) and index is not None and detail_text(detail):
                return True
        return False

    def _is_more_text(self, detail: JsonObject) -> bool:
        """Return True if a fragment has the same name as the last one, and only text."""
        return (
            bool(self._parts)
            and _name(detail) == self._name
            and detail.keys() <= {self._field, *_NAMING_FIELDS}
            and isinstance(detail.get(self._field), str)
            and not self._details[-1].get("signature")
        )

    def _join(self) -> None:
        if not self._parts:
            return
        last = self._details[-1]
        last[self._field] = "".join(self._parts)
        self._parts = []


def readable_details(value: list[Any]) -> list[JsonObject]:
    """Return the details that are objects with content."""
    return [item for item in value if is_object(item) and _has_text(item)]


def detail_text(detail: JsonObject) -> str:
    """Return the text of a detail, or an empty string."""
    field = _text_field(detail)
    text = detail.get(field) if field is not None else None
    return text if isinstance(text, str) else ""


def _text_field(detail: JsonObject) -> str | None:
    kind = str(detail.get("type"))
    if kind in _TEXT_FIELDS or kind == "reasoning.encrypted":
        return _TEXT_FIELDS.get(kind)
    return next((name for name in _UNNAMED_TEXT_FIELDS if isinstance(detail.get(name), str)), None)


def _has_text(detail: JsonObject) -> bool:
    if detail.get("text") or detail.get("data") or detail.get("signature"):
        return True
    return any(not is_blank(detail[key]) for key in detail.keys() - _NAMING_FIELDS)


def _continues(last: JsonObject, detail: JsonObject) -> bool:
    """Return True if `detail` continues the text of `last`: type, index, id and format are equal or
    missing."""
    if last.get("type") != detail.get("type") or last.get("signature"):
        return False
    return all(
        last.get(key) is None or detail.get(key) is None or last[key] == detail[key]
        for key in ("index", "id", "format")
    )


def _sign(last: JsonObject, detail: JsonObject) -> str:
    signature = detail.get("signature")
    if not isinstance(signature, str) or not signature:
        return ""
    last["signature"] = signature
    return signature if str(detail.get("format", "")).startswith(_SIGNED_BY_ANTHROPIC) else ""


def _name(detail: JsonObject) -> tuple[Any, ...]:
    return detail.get("type"), detail.get("index"), detail.get("id"), detail.get("format")
