"""`reasoning_details` (OpenRouter, Snowflake): what must go back to the vendor as it came, signatures and encrypted
data included. They come in fragments, beside the reasoning's plain text or instead of it."""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import Content
from turnstream.wires.openai_chat_chunks import JsonObject, is_blank, is_object, kept

_TEXT_FIELDS = {"reasoning.text": "text", "reasoning.summary": "summary"}
_SIGNED_BY_ANTHROPIC = "anthropic"


class ReasoningDetails:
    """The details of one thinking block, fragments of one text joined."""

    def __init__(self) -> None:
        self._details: list[JsonObject] = []
        self._parts: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._details)

    def add(self, detail: JsonObject) -> str:
        """Add a fragment; return what it adds to an Anthropic signature."""
        field = _TEXT_FIELDS.get(str(detail.get("type")))
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
        return _sign(last, detail)

    def content(self) -> Content:
        """What the thinking block gains: the details, whole."""
        self._join()
        return {"provider_metadata": {"reasoning_details": self._details}}

    def begins_another(self, details: list[JsonObject]) -> bool:
        """Whether the text among `details` belongs to another thought than the one collected here."""
        if not self._details:
            return False
        index = self._details[-1].get("index")
        return any(
            detail_text(detail)
            and isinstance(other := detail.get("index"), int)
            and index is not None
            and other != index
            for detail in details
        )

    def _join(self) -> None:
        if not self._parts:
            return
        last = self._details[-1]
        last[_TEXT_FIELDS[str(last.get("type"))]] = "".join(self._parts)
        self._parts = []


def readable_details(value: list[Any]) -> list[JsonObject]:
    """The details that say something. Raises MalformedEvent for absurd nesting."""
    return [kept(item) for item in value if is_object(item) and _says_something(item)]


def detail_text(detail: JsonObject) -> str:
    """The text that a detail shows, if any."""
    field = _TEXT_FIELDS.get(str(detail.get("type")))
    text = detail.get(field) if field is not None else None
    return text if isinstance(text, str) else ""


def _says_something(detail: JsonObject) -> bool:
    return not all(
        is_blank(item) for key, item in detail.items() if key not in ("type", "format", "index", "id")
    )


def _continues(last: JsonObject, detail: JsonObject) -> bool:
    """Whether `detail` goes on with the text of `last`: of the same type, place and id, as far as both say."""
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
