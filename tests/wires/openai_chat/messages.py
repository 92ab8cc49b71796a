"""Messages of chat.completions for the tests of both directions."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from turnstream.core.blocks import Block

# Canonical sequences: those that the decoder itself makes. A message starts with its id and model; a block of
# text or
# thinking stops before the next begins, and no two of one type stand in a row (but thinking whose details
# have another
# index); a call is stopped when the next block begins if its arguments are whole, else at the end; deltas are
# not
# empty; a signature comes with the details that it is from; usage is one Metadata before the last block is
# stopped, and MessageStop is last.

texts = st.text(min_size=1, max_size=8)


def said(text: str) -> Block:
    return Block(0, "text", text)


def called(identity: str, name: str, **content: Any) -> Block:
    return Block(0, "tool_use", None, {"tool_use_id": identity, "tool_name": name, **content})


def result(identity: str, content: Any, *, is_error: bool = False) -> Block:
    return Block(0, "tool_result", None, {"tool_use_id": identity, "content": content, "is_error": is_error})
