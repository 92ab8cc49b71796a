"""The redaction of an engine or of a model: what is hidden from watchers, and what from providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from turnstream.core.blocks import Block, Content, Message
from turnstream.safety.json_redactor import redact_json, redact_value
from turnstream.safety.rules import RedactionFilter, RedactionRule, built_in_rule
from turnstream.safety.text_redactor import redact_text

OPAQUE_FIELDS = frozenset(
    (
        *("id", "origin", "tool_name", "tool_use_id", "type"),
        *("data", "media_type"),
        *("encrypted_content", "provider_metadata", "redacted", "signature"),
    )
)
"""Fields of a block that the rules do not see: names, ids, media, and values that only the provider reads."""


def _filter_of(rules: Sequence[str | RedactionRule]) -> RedactionFilter | None:
    found = tuple(built_in_rule(rule) if isinstance(rule, str) else rule for rule in rules)
    return RedactionFilter(found) if found else None


class Redaction:
    """The rules of an engine or of a model.

        Redaction(shown=["email", "api_key", RedactionRule("ticket", r"T-[0-9]{6}")], sent=["card"])

    Raises ConfigurationError for an unknown name and for an invalid pattern.

    Args:
        shown: Rules, or names of built-in rules, for the content of an answer before it is stored and shown:
            text, thinking, arguments and results of tools, data.
        sent: Rules for the conversation and the system prompt that a provider gets.

    Attributes:
        shown: Filter of the rules for what is shown, or None.
        sent: Filter of the rules for what is sent, or None.
    """

    __slots__ = ("sent", "shown")

    def __init__(
        self, shown: Sequence[str | RedactionRule] = (), sent: Sequence[str | RedactionRule] = ()
    ) -> None:
        self.shown = _filter_of(shown)
        self.sent = _filter_of(sent)


NO_REDACTION = Redaction()


def redact_content(content: Content, redaction: RedactionFilter) -> Content:
    """Return the content of a block with its fields redacted, except for the opaque ones."""
    return {name: _field(name, value, redaction) for name, value in content.items()}


def redact_messages(messages: Sequence[Message], redaction: RedactionFilter) -> tuple[Message, ...]:
    """Return the messages with all their blocks redacted."""
    return tuple(
        Message(message.role, tuple(_redacted_block(block, redaction) for block in message.blocks))
        for message in messages
    )


def _redacted_block(block: Block, redaction: RedactionFilter) -> Block:
    text = block.text_content and redact_text(block.text_content, redaction)
    content = block.content and redact_content(block.content, redaction)
    if content and block.block_type == "thinking" and text != block.text_content:
        content.pop("signature", None)  # the provider would refuse changed thinking with its old signature
    if text == block.text_content and content == block.content:
        return block
    return msgspec.structs.replace(block, text_content=text, content=content)


def _field(name: str, value: Any, redaction: RedactionFilter) -> Any:
    if name in OPAQUE_FIELDS:
        return value
    if name == "input_json":
        return redact_json(value, redaction)
    match value:
        case dict():
            return redact_content(cast("Content", value), redaction)
        case list():
            items = cast("list[Any]", value)
            return [_field("", item, redaction) for item in items]
        case _:
            return redact_value(value, redaction)
