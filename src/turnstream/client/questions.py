"""Requests that start a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict
from uuid import uuid4

from turnstream.client.transport import Request, path_part
from turnstream.core.blocks import Block

Content: TypeAlias = str | Sequence[Block | Mapping[str, Any]]
"""A text, or a list of blocks: `Block`s, or dicts as in PROTOCOL.md.

Examples of a dict: `{"type": "text", "text": "Hi"}`, `{"block_type": "text", "text_content": "Hi"}`.
"""


class QuestionOptions(TypedDict, total=False):
    """Options of a model call. The server chooses a value for each option that is missing or None.

    Args:
        fallbacks: Models to call, in this order, if `model` fails.
        params: Params of the model call (`max_tokens`, `temperature`, …).
        tools: Names of the server's tools, and the caller's own definitions
            (`{"name", "description", "input_schema"}`).
        idempotency_key: Default: a new key for each turn. The same key and content never start a second turn.
    """

    model: str | None
    fallbacks: Sequence[str] | None
    system: str | None
    params: Mapping[str, Any] | None
    metadata: Mapping[str, Any] | None
    tools: Sequence[str | Mapping[str, Any]] | None
    idempotency_key: str | None


class SendOptions(QuestionOptions, total=False):
    """Options of a message.

    `prev_turn_id`: turn that the message follows. Without it, a new branch begins.
    """

    prev_turn_id: str | None


def new_key() -> str:
    return str(uuid4())


def turn_request(chat_id: str, content: Content, options: SendOptions) -> Request:
    """Return the POST that starts a turn. Its idempotency key makes it safe to repeat."""
    return _turn_start(f"/chats/{path_part(chat_id)}/turns", options, turn_blocks=turn_blocks(content))


def regenerate_request(turn_id: str, options: QuestionOptions) -> Request:
    """Return the POST that regenerates an answer. Its idempotency key makes it safe to repeat."""
    return _turn_start(f"/turns/{path_part(turn_id)}/regenerate", options)


def _turn_start(path: str, options: QuestionOptions, **body: Any) -> Request:
    body |= {
        name: value for name, value in options.items() if value is not None and name != "idempotency_key"
    }
    headers = {"Idempotency-Key": options.get("idempotency_key") or new_key()}
    return Request("POST", path, body, headers)


def turn_blocks(content: Content) -> list[dict[str, Any]]:
    """Return the blocks in the API's form."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [_block_body(block) for block in content]


def _block_body(block: Block | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(block, Block):
        is_short = set(block) == {"type", "text"} and block["type"] == "text"
        return {"block_type": "text", "text_content": block["text"]} if is_short else dict(block)
    fields = {
        "block_type": block.block_type,
        "text_content": block.text_content,
        "content": block.content,
    }
    return {name: value for name, value in fields.items() if value is not None}
