"""Conversions between turnstream's blocks and Ollama's messages.

A message has one text, thinking, images as base64, and calls. Tool results are messages of the role `tool`
that name the tool. The result of a failed tool begins with "Error: ", because there is no field for failures.
An image with only an address is named in the text, because the server does not load addresses.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.tool_input import finish_tool_use
from turnstream.errors import InvalidRequest
from turnstream.wires.shared.histories import (
    TEXT_TYPES,
    Role,
    are_parts,
    is_clients,
    mark_failure,
    media_in,
    merge_sides,
    read_media_url,
    read_result,
)
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.normal_params import document_text
from turnstream.wires.shared.request_bodies import expect, expect_if_given

_MEDIA_TYPES = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)
_UNKNOWN_MEDIA_TYPE = "application/octet-stream"


def dump_messages(messages: Iterable[Message]) -> list[JsonObject]:
    """Return the history as Ollama's messages."""
    dumped: list[JsonObject] = []
    names: dict[str, str] = {}
    for message in messages:
        gathered: list[Block] = []
        for block in message.blocks:
            content = block.content or {}
            if block.block_type == "tool_use":
                names[content.get("tool_use_id", "")] = content.get("tool_name", "")
            if is_clients(block, "tool_result"):
                dumped.extend(_dump_message(message.role, gathered))
                gathered = []
                dumped.append(_dump_result(block, names))
            else:
                gathered.append(block)
        dumped.extend(_dump_message(message.role, gathered))
    return dumped


def parse_messages(raw: Sequence[JsonObject]) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system text and the history. Consecutive messages of a role become one.

    Raises InvalidRequest if a message is invalid.
    """
    system: list[str] = []
    entries: list[tuple[Role, list[Block]]] = []
    calls = _CallNames()
    for item in raw:
        role, content = item.get("role"), expect_if_given(item.get("content"), str, "a message's content")
        if role == "system":
            system.append(content)
            continue
        entries.append(_parse_message(role, item, calls))
    return "\n\n".join(system) or None, merge_sides(entries)


def image_content(data: str) -> Content:
    """Return the content of an image block from base64.

    Its first bytes show its type, which the wire omits.
    """
    found = (media_type for begin, media_type in _MEDIA_TYPES if data.startswith(begin))
    return {"media_type": next(found, _UNKNOWN_MEDIA_TYPE), "data": data}


class _CallNames:
    """The calls of a history, and those without a result. A history may have very many calls."""

    def __init__(self) -> None:
        self._open_calls: deque[str] = deque()
        self._open_calls_of_tool: defaultdict[str, deque[str]] = defaultdict(deque)
        self._called: set[str] = set()
        self._answered: set[str] = set()
        self._generated = 0

    def call_id(self, given_id: Any, name: str) -> str:
        """Return the id of a call: its own, or one generated from its place."""
        identity = given_id if isinstance(given_id, str) and given_id else f"call_{self._generated}"
        self._generated += 1
        self._answered.discard(identity)
        self._called.add(identity)
        self._open_calls.append(identity)
        self._open_calls_of_tool[name].append(identity)
        return identity

    def result_id(self, given_id: Any, name: Any) -> str:
        """Return the id of the call that a result belongs to.

        It is the given id, or that of the first call of its tool without a result. Some clients send the ids
        of calls only with the results.
        """
        found = given_id if isinstance(given_id, str) else ""
        if found not in self._called:
            found = self._first_open(str(name or "")) or found
        self._answered.add(found)
        return found

    def _first_open(self, name: str) -> str:
        """Return the id of the first call of the tool `name` without a result, or `name` if there is none.

        An empty `name` means any tool.
        """
        alike = self._open_calls_of_tool[name] if name else self._open_calls
        while alike and alike[0] in self._answered:
            alike.popleft()
        return alike[0] if alike else name


def _dump_message(role: Role, blocks: Sequence[Block]) -> list[JsonObject]:
    """Return one message, or an empty list if it has no content."""
    texts: list[str] = []
    images: list[str] = []
    calls: list[JsonObject] = []
    thoughts: list[str] = []
    for block in blocks:
        content = block.content or {}
        if block.block_type in TEXT_TYPES and block.text_content:
            texts.append(block.text_content)
        elif block.block_type == "image" and role == "user":
            _add_image(content, texts, images)
        elif block.block_type == "document" and role == "user":
            texts.append(_dump_document(content))
        elif is_clients(block, "tool_use"):
            calls.append(_dump_call(content))
        elif block.block_type == "thinking" and block.text_content and not block.partial:
            thoughts.append(block.text_content)
    text = ("" if role == "assistant" else "\n\n").join(texts)
    message: JsonObject = {"role": role, "content": text}
    if thoughts and role == "assistant":
        message["thinking"] = "".join(thoughts)
    if images:
        message["images"] = images
    if calls:
        message["tool_calls"] = calls
    return [message] if text or images or calls else []


def _dump_document(content: Content) -> str:
    """Return the text of a document. Raises InvalidRequest if it is not text."""
    if (text := document_text(content)) is None:
        raise InvalidRequest("this model's API reads text alone: give the document's text")
    return text


def _dump_call(content: Content) -> JsonObject:
    """Return a call as the model made it.

    Arguments that are not an object become an empty object. The result reports the error.
    """
    given = content.get("input")
    function = {"name": content.get("tool_name", ""), "arguments": given if is_object(given) else {}}
    return {"id": content.get("tool_use_id", ""), "function": function}


def _dump_result(block: Block, names: dict[str, str]) -> JsonObject:
    content = block.content or {}
    identity = content.get("tool_use_id", "")
    texts: list[str] = []
    images: list[str] = []
    value = content.get("content")
    if value is None or isinstance(value, str):
        texts.append(value or block.text_content or "")
    elif are_parts(value, "text", "image"):
        for part in value:
            if part["type"] == "text":
                texts.append(str(part.get("text", "")))
            else:
                _add_image(media_in(part), texts, images)
    else:
        texts.append(encode_json(value).decode())
    text = mark_failure("\n".join(texts), content)
    message: JsonObject = {"role": "tool", "content": text, "tool_call_id": identity}
    if name := names.get(identity):
        message["tool_name"] = name
    return {**message, "images": images} if images else message


def _add_image(content: Content, texts: list[str], images: list[str]) -> None:
    data, url = content.get("data"), content.get("url")
    if isinstance(url, str):
        data = read_media_url(url).get("data", data)
    if isinstance(data, str) and data:
        images.append(data)
    elif url:
        texts.append(f"[image: {url}]")


def _parse_message(role: Any, raw: JsonObject, calls: _CallNames) -> tuple[Role, list[Block]]:
    text = raw.get("content") or ""
    blocks = [_block("text", text)] if text else []
    images: Any = raw.get("images") or []
    if not is_list(images) or not all(isinstance(image, str) for image in images):
        raise InvalidRequest("images is not a list of base64 texts")
    shown = [_block("image", None, image_content(image)) for image in images]
    match role:
        case "user":
            return "user", blocks + shown
        case "tool":
            return "user", [_parse_result(raw, text, calls), *shown]
        case "assistant":
            thinking = raw.get("thinking")
            thought = [_block("thinking", thinking)] if isinstance(thinking, str) and thinking else []
            found = expect(raw.get("tool_calls") or [], list, "tool_calls")
            return "assistant", [*thought, *blocks, *shown, *(_parse_call(call, calls) for call in found)]
        case _:
            raise InvalidRequest(f"a message's role is {role!r}")


def _parse_call(call: Any, calls: _CallNames) -> Block:
    function = call.get("function") if is_object(call) else None
    if not is_object(function) or not isinstance(name := function.get("name"), str):
        raise InvalidRequest("a tool call has no function name")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else encode_json(arguments or {}).decode()
    content: Content = {"tool_use_id": calls.call_id(call.get("id"), name), "tool_name": name}
    return _block("tool_use", None, finish_tool_use(content, text))


def _parse_result(raw: JsonObject, text: str, calls: _CallNames) -> Block:
    identity = calls.result_id(raw.get("tool_call_id"), raw.get("tool_name") or raw.get("name"))
    return _block("tool_result", None, read_result(identity, text))


def _block(block_type: BlockType, text: str | None, content: Content | None = None) -> Block:
    return Block(0, block_type, text, content)
