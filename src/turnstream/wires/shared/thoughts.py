"""Reads reasoning that is not a plain string: objects and lists of texts, summaries and signatures."""

from __future__ import annotations

from typing import Any, NamedTuple

from turnstream.wires.shared.json_values import is_list, is_object

_TEXTS = (
    "text", "thinking", "reasoning", "reasoning_content", "reasoning_text", "reasoningText", "thought",
    "content", "summary", "summary_text",
)  # fmt: skip
_SIGNATURES = ("signature", "thought_signature", "thoughtSignature")
_WORDS = ("reason", "think", "thought")


class Thought(NamedTuple):
    """Text and signature of a piece of reasoning. Each may be empty."""

    text: str
    signature: str


NO_THOUGHT = Thought("", "")


def is_thought(part_type: Any) -> bool:
    """Return True if content parts of this type are reasoning."""
    return isinstance(part_type, str) and (
        part_type == "summary_text" or any(word in part_type.lower() for word in _WORDS)
    )


def read_thought(value: Any) -> Thought:
    """Return the text and signature of reasoning in any shape. Equal texts in two fields of an object count
    once."""
    if isinstance(value, str):
        return Thought(value, "")
    if is_list(value):
        thoughts = [read_thought(item) for item in value]
        return Thought("".join(t.text for t in thoughts), "".join(t.signature for t in thoughts))
    if not is_object(value):
        return NO_THOUGHT
    thoughts = [read_thought(value[name]) for name in _TEXTS if name in value]
    texts = dict.fromkeys(thought.text for thought in thoughts)
    signatures = [thought.signature for thought in thoughts]
    signatures += [item for name in _SIGNATURES if isinstance(item := value.get(name), str)]
    return Thought("".join(texts), "".join(dict.fromkeys(signatures)))
