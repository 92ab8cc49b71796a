"""Answers of chat.completions that are no streams: one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block, Content
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import MalformedEvent, StreamIncomplete
from turnstream.wires.openai_chat.blocks import image_url
from turnstream.wires.openai_chat.decoder import OpenAIChatDecoder
from turnstream.wires.openai_chat.stop_reasons import dump_stop_reason
from turnstream.wires.openai_chat.thinking_blocks import THINKING_BLOCKS, dump_thinking_blocks
from turnstream.wires.openai_chat.usage import write_usage
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, read_json
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.openai_errors import read_error

_LONGEST_DETAIL = 500


def encode_answer(answer: Answer) -> bytes:
    """The chat.completion object. Thinking is told as DeepSeek does, in `reasoning_content`; what the stream cannot say
    is left out here too."""
    message = _dump_message(answer.blocks)
    choice: JsonObject = {"index": 0, "message": message, "logprobs": None, "finish_reason": None}
    if (stop := answer.stop) is not None:
        refused, called = bool(message["refusal"]), bool(message.get("tool_calls"))
        choice["finish_reason"] = dump_stop_reason(stop, refused=refused, called=called)
        if stop.stop_sequence is not None:
            choice["stop_reason"] = stop.stop_sequence
    return encode_json(
        {
            "id": answer.id,
            "object": "chat.completion",
            "created": 0,
            "model": answer.model,
            "choices": [choice],
            "usage": write_usage(answer.usage, answer.raw_usage),
        }
    )


def decode_answer(body: bytes) -> list[StreamEvent]:
    """The events of the stream that would have brought the completion; see `Wire.decode_answer`. A chunk whose choices
    hold whole messages is what a stream of one event is, so the stream's decoder reads it."""
    value = read_json(body)
    if not is_object(value) or not (value.get("choices") or read_error(value) is not None):
        detail = body[:_LONGEST_DETAIL].decode(errors="replace")
        raise MalformedEvent("the answer is no chat.completion", detail=detail)
    decoder = OpenAIChatDecoder(event_limit=2 * len(body) + 1024, on_malformed="fail")
    chunk = encode_json({**value, "object": "chat.completion.chunk"})
    try:
        events = decoder.feed(b"data: %b\n\ndata: [DONE]\n\n" % chunk)
        return events + decoder.close()
    except StreamIncomplete as error:
        raise MalformedEvent("the answer has neither content nor a finish_reason") from error


def _dump_message(blocks: Sequence[Block]) -> JsonObject:
    said: dict[str, list[str]] = {"content": [], "refusal": [], "reasoning_content": []}
    more: dict[str, list[Any]] = {"annotations": [], "reasoning_details": [], "images": [], "tool_calls": []}
    for block in blocks:
        content = block.content or {}
        metadata = content.get("provider_metadata")
        beside: JsonObject = metadata if is_object(metadata) else {}
        match block.block_type:
            case "text":
                said["refusal" if beside.get("refusal") else "content"].append(block.text_content or "")
                more["annotations"] += _listed(content.get("citations"))
            case "thinking":
                said["reasoning_content"].append(block.text_content or "")
                more["reasoning_details"] += _listed(beside.get("reasoning_details"))
            case "tool_use" if not content.get("provider_executed"):
                more["tool_calls"].append(_dump_call(content))
            case "image":
                more["images"].append({"type": "image_url", "image_url": {"url": image_url(content)}})
            case _:
                pass
    if entries := dump_thinking_blocks(blocks):
        more[THINKING_BLOCKS] = entries
    texts = {name: "".join(pieces) or None for name, pieces in said.items()}
    thought = texts.pop("reasoning_content")
    return {
        "role": "assistant",
        **texts,
        **({"reasoning_content": thought} if thought else {}),
        **{name: items for name, items in more.items() if items},
    }


def _dump_call(content: Content) -> JsonObject:
    """The call with its arguments word for word, valid or not."""
    text = content.get("input_json") or encode_json(content.get("input") or {}).decode()
    function = {"name": content.get("tool_name", ""), "arguments": text}
    return {"id": content.get("tool_use_id", ""), "type": "function", "function": function}


def _listed(value: Any) -> list[Any]:
    return value if is_list(value) else []
