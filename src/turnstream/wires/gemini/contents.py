"""Our blocks as Gemini's contents; `gemini_messages` is the way back.

A content is what one side says, in parts; a function's response is the user's to say, and names its function. A part goes
back with the thought signature it came with. Thinking goes back only where Gemini signed it: the API has no use for other
thinking, and refuses another vendor's signature.
What a tool said is `{"output": …}`, and what it failed with `{"error": …}`, unless it is an object already.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from turnstream.core.blocks import Block, Content, Message
from turnstream.wires.gemini.calls import MADE_UP
from turnstream.wires.gemini.chunks import text_in
from turnstream.wires.gemini.parts import THOUGHT
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object

Part: TypeAlias = JsonObject
Role: TypeAlias = Literal["user", "assistant"]

BESIDE = frozenset({"thoughtSignature", "thought", "videoMetadata", "mediaResolution", "partMetadata"})
"""What a part may say beside its data, and does again when it goes back."""
_RAW_PARTS = frozenset(
    {
        "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
        "codeExecutionResult", "toolCall", "toolResponse",
    }
)  # fmt: skip
_UNKNOWN_FUNCTION = "unknown_function"
"""Whose response it is where no call tells: the API wants a name."""
_ROLES: dict[Role, str] = {"user": "user", "assistant": "model"}


def dump_contents(messages: Iterable[Message]) -> list[JsonObject]:
    """The history as contents whose roles alternate."""
    contents: list[JsonObject] = []
    names: dict[str, str] = {}
    for message in messages:
        for block in message.blocks:
            content = block.content or {}
            if block.block_type == "tool_use":
                names[content.get("tool_use_id", "")] = content.get("tool_name", "")
            parts = dump_parts(block, names)
            role = _ROLES[_side_of(block, message.role)]
            if parts and (not contents or contents[-1]["role"] != role):
                contents.append({"role": role, "parts": []})
            if parts:
                contents[-1]["parts"].extend(parts)
    return contents


def dump_parts(block: Block, names: dict[str, str] | None = None) -> list[Part]:
    """The parts that a block stands for; none where the API would refuse it. `names`: of the tools, by their calls."""
    content = block.content or {}
    text = block.text_content or ""
    beside = _beside(content)
    match block.block_type:
        case "text" | "reference" | "partial_reference":
            return _dump_text(text, content, beside)
        case "thinking":
            own = _metadata(content).get("part") == THOUGHT and not block.partial
            return [_thought(text, content)] if own and content.get("signature") else []
        case "tool_use" | "tool_result" if content.get("provider_executed"):
            return [{**part, **beside}] if (part := _dump_server_part(block)) else []
        case "tool_use":
            return [{"functionCall": _dump_call(content), **beside}]
        case "tool_result":
            name = (names or {}).get(content.get("tool_use_id", "")) or _UNKNOWN_FUNCTION
            return [{"functionResponse": _dump_response(content, text, name), **beside}]
        case "image" | "document":
            return [{**_dump_media(content), **beside}]
        case "provider":
            raw = not block.partial and "type" not in content and not _RAW_PARTS.isdisjoint(content)
            return [dict(content)] if raw else []


def dump_answer(blocks: Iterable[Block]) -> list[Part]:
    """The parts of a whole answer: thinking is among them whether or not it was signed, and by whom."""
    return [
        part
        for block in blocks
        for part in (
            [_thought(block.text_content or "", block.content or {})]
            if block.block_type == "thinking" and "redacted" not in (block.content or {})
            else dump_parts(block)
        )
    ]


def _thought(text: str, content: Content) -> Part:
    signature = content.get("signature")
    return {"text": text, "thought": True, **({"thoughtSignature": signature} if signature else {})}


def _side_of(block: Block, role: Role) -> Role:
    if block.block_type in ("tool_use", "thinking"):
        return "assistant"
    if block.block_type == "tool_result" and not (block.content or {}).get("provider_executed"):
        return "user"
    return role


def _metadata(content: Content) -> JsonObject:
    metadata = content.get("provider_metadata")
    return metadata if is_object(metadata) else {}


def _beside(content: Content) -> Part:
    return {key: item for key, item in _metadata(content).items() if key in BESIDE}


def _dump_text(text: str, content: Content, beside: Part) -> list[Part]:
    """One part; of a text of which a part is signed, that and what stands around it."""
    signed = _metadata(content).get("signed")
    if not (is_list(signed) and len(signed) == 2 and all(type(place) is int for place in signed)):
        return [{"text": text, **beside}] if text or beside else []
    start, end = signed
    before, after = text[:start], text[end:]
    return [
        *([{"text": before}] if before else []),
        {"text": text[start:end], **beside},
        *([{"text": after}] if after else []),
    ]


def _dump_call(content: Content) -> JsonObject:
    given = content.get("input")
    call: JsonObject = {"name": content.get("tool_name", ""), "args": given if is_object(given) else {}}
    identity = text_in(content.get("tool_use_id"))
    return call if not identity or identity.startswith(MADE_UP) else {"id": identity, **call}


def _dump_response(content: Content, text: str, name: str) -> JsonObject:
    value = content.get("content")
    value = text if value is None else value
    images: list[Part] = []
    if is_list(value) and all(is_object(part) and part.get("type") in ("text", "image") for part in value):
        images = [image for part in value if part["type"] == "image" and (image := _result_image(part))]
        value = "\n".join(text_in(part.get("text")) for part in value if part["type"] == "text")
    failed = bool(content.get("is_error"))
    if failed or not is_object(value):
        value = {"error" if failed else "output": value}
    response: JsonObject = {"name": name, "response": value}
    if images:
        response["parts"] = images
    identity = text_in(content.get("tool_use_id"))
    return response if not identity or identity.startswith(MADE_UP) else {"id": identity, **response}


def _result_image(part: JsonObject) -> Part | None:
    """An image of a tool's result: ours, or with Anthropic's `source`."""
    source = part.get("source")
    found = _dump_media(source if is_object(source) else part)
    return found if "inlineData" in found and found["inlineData"]["data"] else None


def _dump_media(content: Content) -> Part:
    if content.get("text"):
        return {"text": content["text"]}
    media_type = content.get("media_type")
    if "url" in content:
        of_type = {"mimeType": media_type} if media_type else {}
        return {"fileData": {**of_type, "fileUri": content["url"]}}
    return {"inlineData": {"mimeType": media_type or "", "data": content.get("data", "")}}


def _dump_server_part(block: Block) -> Part | None:
    """A part of Gemini's own tools; None for what another vendor's did."""
    content = block.content or {}
    name = _metadata(content).get("part")
    identity = text_in(content.get("tool_use_id"))
    given = {"id": identity} if identity and not identity.startswith(MADE_UP) else {}
    match name:
        case "executableCode" if is_object(content.get("input")):
            return {name: {**content["input"], **given}}
        case "toolCall" if is_object(content.get("input")):
            return {name: {"toolType": content.get("tool_name", ""), "args": content["input"], **given}}
        case "codeExecutionResult" | "toolResponse" if is_object(content.get("content")):
            return {name: {**content["content"], **given}}
        case _:
            return None
