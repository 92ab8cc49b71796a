"""Gemini's contents as our messages; `gemini_contents` is the way there."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.tool_input import finish_tool_use
from turnstream.errors import InvalidRequest
from turnstream.wires.gemini.calls import MADE_UP
from turnstream.wires.gemini.chunks import named, objects_in, text_in
from turnstream.wires.gemini.contents import BESIDE, Part
from turnstream.wires.gemini.parts import THOUGHT, parse_image
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.made_up_ids import made_up_id


def parse_contents(raw: Sequence[Any]) -> tuple[Message, ...]:
    """The messages of a request's `contents`. Calls without ids get some, their responses the same. Raises
    InvalidRequest."""
    messages: list[Message] = []
    calls = _CallIds()
    for item in raw:
        if not is_object(item):
            raise InvalidRequest("a content is not an object")
        content = named(item)
        role = content.get("role", "user")
        if role not in ("user", "model", "function", "tool"):
            raise InvalidRequest("a content's role is user or model")
        parts = content.get("parts", [])
        if not is_list(parts) or not all(is_object(part) for part in parts):
            raise InvalidRequest("the parts of a content are not a list of objects")
        blocks = tuple(_parse_part(n, named(part), calls) for n, part in enumerate(parts))
        messages.append(Message("assistant" if role == "model" else "user", blocks))
    return tuple(messages)


def text_of_parts(value: Any) -> str:
    """The text of a content, or of what stands for one."""
    if isinstance(value, str):
        return value
    parts = named(value).get("parts", value) if is_object(value) else value
    texts = [text_in(part.get("text")) for part in objects_in([parts] if is_object(parts) else parts)]
    return "\n\n".join(text for text in texts if text)


class _CallIds:
    """The calls of a request: each response goes to the first that has its id, or its name, and none yet."""

    def __init__(self) -> None:
        self._count = 0
        self._unanswered: deque[tuple[str, str]] = deque()
        self._last_code = ""

    def called(self, name: str, given: str) -> str:
        identity = given or self._new()
        self._unanswered.append((identity, name))
        return identity

    def answered(self, name: str, given: str) -> str:
        for waiting in self._unanswered:
            identity, called = waiting
            if identity == given or (not given and called == name and identity.startswith(MADE_UP)):
                self._unanswered.remove(waiting)
                return identity
        return given or self._new()

    def code(self, given: str) -> str:
        self._last_code = given or self._new()
        return self._last_code

    def code_result(self, given: str) -> str:
        return given or self._last_code or self._new()

    def _new(self) -> str:
        self._count += 1
        return made_up_id("request", self._count, MADE_UP)


def _parse_part(sequence: int, part: Part, calls: _CallIds) -> Block:
    beside = {key: item for key, item in part.items() if key in BESIDE}
    data = {key: item for key, item in part.items() if key not in BESIDE}
    metadata = {"provider_metadata": beside} if beside else {}
    match data:
        case {"text": str(text)} if len(data) == 1 and beside.get("thought") is True and len(beside) <= 2:
            signature = beside.get("thoughtSignature")
            signed = {"signature": signature, "provider_metadata": {"part": THOUGHT}}
            return Block(sequence, "thinking", text, signed if signature else None)
        case {"text": str(text)} if len(data) == 1:
            return Block(sequence, "text", text, metadata or None)
        case {"functionCall": call} if len(data) == 1 and is_object(call):
            return Block(sequence, "tool_use", None, {**metadata, **_parse_call(named(call), calls)})
        case {"functionResponse": response} if len(data) == 1 and is_object(response):
            parsed = _parse_response(named(response), calls)
            return Block(sequence, "tool_result", None, {**metadata, **parsed})
        case {"inlineData": media} | {"fileData": media} if len(data) == 1 and is_object(media):
            found = _parse_media(named(media))
            if found is not None:
                return Block(sequence, found[0], None, {**found[1], **metadata})
        case _:
            server = _parse_server_part(sequence, data, beside, calls)
            if server is not None:
                return server
    return Block(sequence, "provider", None, dict(part))


def _parse_call(call: JsonObject, calls: _CallIds) -> Content:
    name, args = call.get("name"), call.get("args", {})
    if not isinstance(name, str) or not is_object(args):
        raise InvalidRequest("a functionCall has no name, or its args are no object")
    identity = calls.called(name, text_in(call.get("id")))
    content: Content = {"tool_use_id": identity, "tool_name": name}
    return finish_tool_use(content, encode_json(args).decode("utf-8", "replace"))


def _parse_response(response: JsonObject, calls: _CallIds) -> Content:
    name, value = text_in(response.get("name")), response.get("response", {})
    if not is_object(value):
        raise InvalidRequest("a functionResponse has no response")
    identity = calls.answered(name, text_in(response.get("id")))
    said: Any = value
    failed = False
    if value.keys() == {"output"} and isinstance(value["output"], str):
        said = value["output"]
    elif value.keys() == {"error"}:
        said, failed = value["error"], True
    if images := [
        _parse_media(named(item)) for part in objects_in(response.get("parts")) for item in part.values()
    ]:
        text = said if isinstance(said, str) else encode_json(said).decode("utf-8", "replace")
        shown = [{"type": "image", **found[1]} for found in images if found is not None]
        said = [{"type": "text", "text": text}, *shown]
    return {"tool_use_id": identity, "content": said, "is_error": failed}


def _parse_media(media: JsonObject) -> tuple[BlockType, Content] | None:
    """An image, or else a document; None where it says more."""
    if (image := parse_image(media)) is not None:
        return "image", image[1]
    media_type = media.get("mimeType")
    if (
        media.keys() == {"mimeType", "data"}
        and isinstance(media_type, str)
        and isinstance(media["data"], str)
    ):
        return "document", {"media_type": media_type, "data": media["data"]}
    if media.keys() <= {"mimeType", "fileUri"} and isinstance(url := media.get("fileUri"), str):
        return "document", {"url": url, **({"media_type": media_type} if media_type else {})}
    return None


def _parse_server_part(sequence: int, data: Part, beside: Part, calls: _CallIds) -> Block | None:
    """What Gemini's own tools were asked, or answered."""
    name = next(iter(data)) if len(data) == 1 else ""
    value = data.get(name)
    if not is_object(value):
        return None
    value = named(value)
    own = {key: item for key, item in value.items() if key != "id"}
    given = text_in(value.get("id"))
    metadata = {**beside, "part": name}
    match name:
        case "executableCode" | "toolCall":
            asked = own if name == "executableCode" else own.get("args", {})
            tool = "code_execution" if name == "executableCode" else text_in(own.get("toolType"))
            content: Content = {
                "tool_use_id": calls.code(given),
                "tool_name": tool,
                "provider_executed": True,
                "provider_metadata": metadata,
            }
            text = encode_json(asked).decode("utf-8", "replace")
            return Block(sequence, "tool_use", None, finish_tool_use(content, text))
        case "codeExecutionResult" | "toolResponse":
            content = {"tool_use_id": calls.code_result(given), "content": own, "provider_executed": True}
            failed = own.get("outcome", "OUTCOME_OK") != "OUTCOME_OK"
            return Block(
                sequence, "tool_result", None, {**content, "is_error": failed, "provider_metadata": metadata}
            )
        case _:
            return None
