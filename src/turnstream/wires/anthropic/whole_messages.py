"""Converts a complete message of Anthropic's API into the events of its stream."""

from __future__ import annotations

from collections.abc import Iterator

from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json


def stream_of(message: JsonObject) -> Iterator[JsonObject] | None:
    """Return the stream events: start, blocks, end. Return None if `message` is not a message."""
    content = message.get("content")
    return _events(message, content) if is_list(content) else None


def _events(message: JsonObject, content: list[object]) -> Iterator[JsonObject]:
    yield {"type": "message_start", "message": {**message, "content": []}}
    for index, raw in enumerate(content):
        block, fragment = _without_input(raw)
        yield {"type": "content_block_start", "index": index, "content_block": block}
        if fragment is not None:
            delta = {"type": "input_json_delta", "partial_json": fragment}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_stop"}


def _without_input(raw: object) -> tuple[object, str | None]:
    """Return a tool's block with empty input, as a stream starts it, and its input as JSON text.

    The text is None if the block has no input.
    """
    if not is_object(raw):
        return raw, None
    given = raw.get("input")
    if not str(raw.get("type")).endswith("tool_use") or not is_object(given) or not given:
        return raw, None
    return {**raw, "input": {}}, encode_json(given).decode()
