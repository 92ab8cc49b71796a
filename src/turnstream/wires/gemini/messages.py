"""Conversions between turnstream's messages and Gemini's contents.

A content holds the parts of one role. A function's response belongs to the user and names its function. A
part returns with its own thought signature. Thinking returns only if Gemini signed it: the API ignores other
thinking and refuses another vendor's signature.

A tool's result becomes `{"output": …}`, or `{"error": …}` if the tool failed, unless it is already an object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.tool_input import finish_tool_use
from turnstream.errors import InvalidRequest
from turnstream.wires.gemini.chunks import named, objects_in, text_in
from turnstream.wires.shared.call_ids import generated_id
from turnstream.wires.shared.histories import (
    Role,
    alternate_roles,
    are_parts,
    is_clients,
    media_in,
    metadata_of,
)
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, without
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.request_bodies import expect, expect_objects

Part: TypeAlias = JsonObject

GENERATED_PREFIX = "gemini_call_"
"""Prefix of generated call ids. They are not sent to the provider, which does not know them."""
THOUGHT = "thought"
"""Value of `provider_metadata.part` for thinking that Gemini has signed and accepts."""
_EXTRA_FIELDS = frozenset({"thoughtSignature", "thought", "videoMetadata", "mediaResolution", "partMetadata"})
"""Fields of a part that are not its data and return with it."""
_RAW_PARTS = frozenset(
    {
        "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
        "codeExecutionResult", "toolCall", "toolResponse",
    }
)  # fmt: skip
_SERVER_PARTS = frozenset({"executableCode", "codeExecutionResult", "toolCall", "toolResponse"})
_OK = ("OUTCOME_OK", "OUTCOME_UNSPECIFIED")
_UNKNOWN_FUNCTION = "unknown_function"
"""Name in the response of a function whose call is unknown. The API requires a name."""
_ROLES: dict[Role, str] = {"user": "user", "assistant": "model"}


def dump_contents(messages: Iterable[Message]) -> list[JsonObject]:
    """Return the history as contents whose roles alternate."""
    entries: list[tuple[str, list[Part]]] = []
    names: dict[str, str] = {}
    for message in messages:
        for block in message.blocks:
            content = block.content or {}
            if block.block_type == "tool_use":
                names[content.get("tool_use_id", "")] = content.get("tool_name", "")
            entries.append((_ROLES[_side_of(block, message.role)], dump_parts(block, names)))
    return alternate_roles(entries, field="parts")


def dump_parts(block: Block, names: dict[str, str] | None = None) -> list[Part]:
    """Return the parts of a block, or an empty list if the API would refuse it.

    `names` maps call ids to tool names. None if the calls are unknown.
    """
    content = block.content or {}
    text = block.text_content or ""
    extra = _extra_fields(content)
    match block.block_type:
        case "text" | "reference" | "partial_reference":
            return _dump_text(text, content, extra)
        case "thinking":
            own = metadata_of(content).get("part") == THOUGHT and not block.partial
            return [_thought(text, content)] if own and content.get("signature") else []
        case "tool_use" | "tool_result" if content.get("provider_executed"):
            return [{**part, **extra}] if (part := _dump_server_part(block)) else []
        case "tool_use":
            return [{"functionCall": _dump_call(content), **extra}]
        case "tool_result":
            name = (names or {}).get(content.get("tool_use_id", "")) or _UNKNOWN_FUNCTION
            return [{"functionResponse": _dump_response(content, text, name), **extra}]
        case "image" | "document":
            return [{**_dump_media(content), **extra}]
        case "provider":
            raw = not block.partial and "type" not in content and not _RAW_PARTS.isdisjoint(content)
            return [dict(content)] if raw else []


def dump_answer(blocks: Iterable[Block]) -> list[Part]:
    """Return the parts of a complete answer. Thinking is included, signed or not, from any vendor."""
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
    return "user" if is_clients(block, "tool_result") else role


def _extra_fields(content: Content) -> Part:
    return {key: item for key, item in metadata_of(content).items() if key in _EXTRA_FIELDS}


def _dump_text(text: str, content: Content, extra: Part) -> list[Part]:
    """Return the parts of a text: one, or up to three if only a section of the text is signed."""
    signed = metadata_of(content).get("signed")
    if not (is_list(signed) and len(signed) == 2 and all(type(place) is int for place in signed)):
        return [{"text": text, **extra}] if text or extra else []
    start, end = signed
    before, after = text[:start], text[end:]
    return [
        *([{"text": before}] if before else []),
        {"text": text[start:end], **extra},
        *([{"text": after}] if after else []),
    ]


def _dump_call(content: Content) -> JsonObject:
    given = content.get("input")
    call = {"name": content.get("tool_name", ""), "args": given if is_object(given) else {}}
    return {**_own_id(content), **call}


def _own_id(content: Content) -> JsonObject:
    """Return the id of a call, unless turnstream generated it."""
    identity = text_in(content.get("tool_use_id"))
    return {} if not identity or identity.startswith(GENERATED_PREFIX) else {"id": identity}


def _dump_response(content: Content, text: str, name: str) -> JsonObject:
    value = content.get("content")
    value = text if value is None else value
    images: list[Part] = []
    if are_parts(value, "text", "image"):
        images = [image for part in value if part["type"] == "image" and (image := _result_image(part))]
        value = "\n".join(text_in(part.get("text")) for part in value if part["type"] == "text")
    failed = bool(content.get("is_error"))
    if failed or not is_object(value):
        value = {"error" if failed else "output": value}
    response: JsonObject = {"name": name, "response": value}
    if images:
        response["parts"] = images
    return {**_own_id(content), **response}


def _result_image(part: JsonObject) -> Part | None:
    """Return an image of a tool's result, in turnstream's form or with Anthropic's `source`."""
    found = _dump_media(media_in(part))
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
    """Return a part of Gemini's own tools, or None for another vendor's."""
    content = block.content or {}
    name = metadata_of(content).get("part")
    given = _own_id(content)
    match name:
        case "executableCode" if is_object(content.get("input")):
            return {name: {**content["input"], **given}}
        case "toolCall" if is_object(content.get("input")):
            return {name: {"toolType": content.get("tool_name", ""), "args": content["input"], **given}}
        case "codeExecutionResult" | "toolResponse" if is_object(content.get("content")):
            return {name: {**content["content"], **given}}
        case _:
            return None


def parse_contents(raw: Sequence[JsonObject]) -> tuple[Message, ...]:
    """Return the messages of a request's `contents`. Calls without an id get one, and so do their responses.

    Raises InvalidRequest if the contents are invalid.
    """
    messages: list[Message] = []
    calls = _CallIds()
    for content in map(named, raw):
        role = content.get("role", "user")
        if role not in ("user", "model", "function", "tool"):
            raise InvalidRequest("a content's role is user or model")
        parts = expect_objects(content.get("parts", []), "the parts of a content", "a part")
        blocks = tuple(_parse_part(n, named(part), calls) for n, part in enumerate(parts))
        messages.append(Message("assistant" if role == "model" else "user", blocks))
    return tuple(messages)


def text_of_parts(value: Any) -> str:
    """Return the text of a content. A string or a list of parts is accepted too."""
    if isinstance(value, str):
        return value
    parts = named(value).get("parts", value) if is_object(value) else value
    texts = [text_in(part.get("text")) for part in objects_in([parts] if is_object(parts) else parts)]
    return "\n\n".join(text for text in texts if text)


class _CallIds:
    """The calls of a request.

    A response belongs to the first unanswered call with its id, or with its name.
    """

    def __init__(self) -> None:
        self._count = 0
        self._unanswered: deque[tuple[str, str]] = deque()
        self.server_tools = ServerTools(lambda given: given or self._new())

    def called(self, name: str, given: str) -> str:
        identity = given or self._new()
        self._unanswered.append((identity, name))
        return identity

    def answered(self, name: str, given: str) -> str:
        for waiting in self._unanswered:
            identity, called = waiting
            if identity == given or (not given and called == name and identity.startswith(GENERATED_PREFIX)):
                self._unanswered.remove(waiting)
                return identity
        return given or self._new()

    def _new(self) -> str:
        self._count += 1
        return generated_id("request", self._count, GENERATED_PREFIX)


def _parse_part(sequence: int, part: Part, calls: _CallIds) -> Block:
    extra = {key: item for key, item in part.items() if key in _EXTRA_FIELDS}
    data = without(part, *_EXTRA_FIELDS)
    metadata = {"provider_metadata": extra} if extra else {}
    match data:
        case {"text": str(text)} if len(data) == 1 and extra.get("thought") is True and len(extra) <= 2:
            signature = extra.get("thoughtSignature")
            signed = {"signature": signature, "provider_metadata": {"part": THOUGHT}}
            return Block(sequence, "thinking", text, signed if signature else None)
        case {"text": str(text)} if len(data) == 1:
            return Block(sequence, "text", text, metadata or None)
        case {"functionCall": call} if len(data) == 1 and is_object(call):
            return Block(sequence, "tool_use", None, {**metadata, **_parse_call(named(call), calls)})
        case {"functionResponse": response} if len(data) == 1 and is_object(response):
            result = _parse_response(named(response), calls)
            return Block(sequence, "tool_result", None, {**metadata, **result})
        case {"inlineData": media} | {"fileData": media} if len(data) == 1 and is_object(media):
            found = _parse_media(named(media))
            if found is not None:
                return Block(sequence, found[0], None, {**found[1], **metadata})
        case _ if len(data) == 1:
            ((name, value),) = data.items()
            if (parsed := calls.server_tools.parse(name, value)) is not None:
                block_type, content, text = parsed
                content |= {"provider_metadata": {**extra, "part": name}}
                return Block(
                    sequence,
                    block_type,
                    None,
                    finish_tool_use(content, text) if block_type == "tool_use" else content,
                )
        case _:
            pass
    return Block(sequence, "provider", None, dict(part))


def _parse_call(call: JsonObject, calls: _CallIds) -> Content:
    name, args = call.get("name"), call.get("args", {})
    if not isinstance(name, str) or not is_object(args):
        raise InvalidRequest("a functionCall needs a name, and args that are an object")
    identity = calls.called(name, text_in(call.get("id")))
    content: Content = {"tool_use_id": identity, "tool_name": name}
    return finish_tool_use(content, encode_json(args).decode("utf-8", "replace"))


def _parse_response(response: JsonObject, calls: _CallIds) -> Content:
    name = text_in(response.get("name"))
    value = expect(response.get("response", {}), dict, "the response of a functionResponse")
    identity = calls.answered(name, text_in(response.get("id")))
    result: Any = value
    failed = False
    if value.keys() == {"output"} and isinstance(value["output"], str):
        result = value["output"]
    elif value.keys() == {"error"}:
        result, failed = value["error"], True
    if images := [
        _parse_media(named(item)) for part in objects_in(response.get("parts")) for item in part.values()
    ]:
        text = result if isinstance(result, str) else encode_json(result).decode("utf-8", "replace")
        shown = [{"type": "image", **found[1]} for found in images if found is not None]
        result = [{"type": "text", "text": text}, *shown]
    return {"tool_use_id": identity, "content": result, "is_error": failed}


def parse_image(name: str, value: Any) -> tuple[BlockType, Content, str] | None:
    """Return the block of an image: its type, its content, and an empty text.

    None for a field other than `inlineData` or `fileData`, for other media, and if it has other fields.
    """
    if name not in ("inlineData", "fileData") or not is_object(value):
        return None
    value = named(value)
    media_type = value.get("mimeType")
    if not (isinstance(media_type, str) and media_type.startswith("image/")):
        return None
    if isinstance(data := value.get("data"), str) and len(value) == 2:
        return "image", {"media_type": media_type, "data": data}, ""
    if isinstance(url := value.get("fileUri"), str) and len(value) == 2:
        return "image", {"url": url, "media_type": media_type}, ""
    return None


def _parse_media(media: JsonObject) -> tuple[BlockType, Content] | None:
    """Return the type and the content of an image or a document, or None if it has other fields."""
    if (image := parse_image("inlineData", media)) is not None:
        return "image", image[1]
    media_type = media.get("mimeType")
    data = media.get("data")
    if media.keys() == {"mimeType", "data"} and isinstance(media_type, str) and isinstance(data, str):
        return "document", {"media_type": media_type, "data": data}
    if media.keys() <= {"mimeType", "fileUri"} and isinstance(url := media.get("fileUri"), str):
        return "document", {"url": url, **({"media_type": media_type} if media_type else {})}
    return None


class ServerTools:
    """The calls and results of Gemini's own tools in one message or request.

    `new_id`: returns the id of a call, given the provider's id or an empty string.
    """

    def __init__(self, new_id: Callable[[str], str]) -> None:
        self._new_id = new_id
        self._last_call = ""

    def parse(self, name: str, value: Any) -> tuple[BlockType, Content, str] | None:
        """Return type, content and tool input of a part with one field. None for another part."""
        if name not in _SERVER_PARTS or not is_object(value):
            return None
        value = named(value)
        given, fields = text_in(value.get("id")), without(value, "id")
        content: Content = {"provider_executed": True}
        if name in ("executableCode", "toolCall"):
            self._last_call = self._new_id(given)
            is_code = name == "executableCode"
            tool = "code_execution" if is_code else text_in(value.get("toolType"))
            arguments = fields if is_code else value.get("args")
            text = "" if arguments is None else encode_json(arguments).decode("utf-8", "replace")
            return "tool_use", {"tool_use_id": self._last_call, "tool_name": tool, **content}, text
        failed = name == "codeExecutionResult" and value.get("outcome", _OK[0]) not in _OK
        identity = given or self._last_call or self._new_id("")
        return "tool_result", {"tool_use_id": identity, "content": fields, "is_error": failed, **content}, ""
