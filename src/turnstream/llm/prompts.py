"""Converts a caller's prompt and messages to turns of a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import msgspec

from turnstream.core.blocks import BLOCK_TYPES, Block, Content, Message
from turnstream.core.history import PastTurn
from turnstream.errors import InvalidRequest
from turnstream.llm.model_message import ModelMessage

Part: TypeAlias = str | Block | Mapping[str, Any]
"""A part of a prompt: a text, a Block, or a mapping with a `type`:

    {"type": "text", "text": "…"}
    {"type": "image", "url": "https://…"}               or {"media_type": "image/png", "data": "<base64>"}
    {"type": "document", "media_type": …, "data": …}    or {"url": …} or {"text": …}; a title is optional
    {"type": "tool_result", "tool_use_id": …, "content": "…", "is_error": false}
    {"type": "tool_use", "id": …, "name": …, "input": {…}}

A mapping with a `block_type` is a block as a turnstream server or `msgspec.to_builtins` writes it.
"""
Prompt: TypeAlias = str | Sequence[Part]
MessageLike: TypeAlias = Message | ModelMessage[Any] | Mapping[str, Any]
"""An earlier message: the message of a stream, a Message, or a mapping.

The mapping is `{"role": "user" | "assistant", "content": Prompt}`, or, for the result of a call,
`{"role": "tool", "tool_call_id": …, "content": …}`.
"""


def past_turns(messages: Sequence[MessageLike], prompt: Prompt | None) -> list[PastTurn]:
    """Return the turns of `messages`, with `prompt` as the user's last turn. Raises InvalidRequest."""
    past = [_past_turn(place, message) for place, message in enumerate(messages)]
    if prompt is not None:
        past.append(PastTurn("user", "complete", blocks_of(prompt, "the prompt")))
    if not past:
        raise InvalidRequest("the prompt is missing: give a prompt or messages")
    return past


def blocks_of(prompt: Prompt, where: str) -> tuple[Block, ...]:
    """Return the blocks of a prompt. Raises InvalidRequest, in which `where` names the prompt."""
    parts: object = [prompt] if isinstance(prompt, str | Block | Mapping) else cast("object", prompt)
    if isinstance(parts, bytes) or not isinstance(parts, Sequence):
        raise InvalidRequest(f"{where} is a {type(parts).__name__}: give a text, or a list of parts")
    return tuple(_block(number, part, where) for number, part in enumerate(cast("Sequence[object]", parts)))


def _past_turn(place: int, message: object) -> PastTurn:
    where = f"messages[{place}]"
    if isinstance(message, ModelMessage):
        blocks = (*message.blocks, *map(_accepting_result, message.outputs))
        return PastTurn("assistant", "complete" if message.complete else "error", blocks)
    if isinstance(message, Message):
        return PastTurn(message.role, "complete", message.blocks)
    if not isinstance(message, Mapping):
        raise InvalidRequest(f"{where} is a {type(message).__name__}: give a message or a mapping")
    given = cast("Mapping[str, Any]", message)
    role, content = given.get("role"), given.get("content")
    if role == "tool":
        result = {"type": "tool_result", "tool_use_id": given.get("tool_call_id"), "content": content}
        return PastTurn("user", "complete", (_block(0, result, where),))
    if role not in ("user", "assistant"):
        raise InvalidRequest(
            f"{where}: role is {role!r}, but it must be user, assistant or tool; instructions go to system="
        )
    if not isinstance(content, str | Sequence):
        raise InvalidRequest(f"{where}: content has to be a text or a list of parts")
    return PastTurn(role, "complete", blocks_of(cast("Prompt", content), where))


def _accepting_result(call: Block) -> Block:
    """Return a result for the tool call that was the typed answer."""
    identity = (call.content or {}).get("tool_use_id", "")
    return Block(0, "tool_result", None, {"tool_use_id": identity, "content": "taken", "is_error": False})


def _block(number: int, part: object, where: str) -> Block:
    if isinstance(part, str):
        return Block(number, "text", part)
    if isinstance(part, Block):
        return Block(number, part.block_type, part.text_content, part.content)
    if not isinstance(part, Mapping):
        raise InvalidRequest(f"{where}: a part is a {type(part).__name__}: give a text, a Block or a mapping")
    given = {str(key): value for key, value in cast("Mapping[Any, Any]", part).items()}
    if given.get("block_type") in BLOCK_TYPES:
        return _stored_block(number, given, where)
    kind = given.pop("type", None)
    if kind == "text":
        return Block(number, "text", _text(given, "text", where))
    if kind == "tool_use":
        return _tool_use(number, given, where)
    if kind == "tool_result":
        _text(given, "tool_use_id", where)
        return Block(number, "tool_result", None, {"is_error": False, **given})
    if kind in ("image", "document"):
        wanted = ("url", "data", "text") if kind == "document" else ("url", "data")
        if not any(isinstance(given.get(name), str) for name in wanted):
            raise InvalidRequest(f"{where}: the {kind} needs one of {', '.join(wanted)}")
        return Block(number, kind, None, given)
    raise InvalidRequest(
        f"{where}: type is {kind!r}, but it must be text, image, document, tool_result or tool_use"
        + ("; other blocks are given as Block" if kind in BLOCK_TYPES else "")
    )


def _stored_block(number: int, given: dict[str, Any], where: str) -> Block:
    fields = {
        name: given[name] for name in ("block_type", "text_content", "content", "partial") if name in given
    }
    try:
        return msgspec.convert({"sequence": number, **fields}, Block)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{where}: a block cannot be read: {error}; give a Block") from error


def _tool_use(number: int, given: dict[str, Any], where: str) -> Block:
    arguments: Any = given.get("input")
    content: Content = {
        "tool_use_id": given.get("tool_use_id") or _text(given, "id", where),
        "tool_name": given.get("tool_name") or _text(given, "name", where),
        "input": cast("dict[str, Any]", arguments) if isinstance(arguments, dict) else {},
        "input_json": "",
    }
    return Block(number, "tool_use", None, content)


def _text(given: Mapping[str, Any], name: str, where: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: {name} must be a text")
    return value
