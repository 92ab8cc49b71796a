"""Encodes answers as one chat.completion object. The inverse is `answer_decoder`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnstream.core.answers import Answer
from turnstream.core.blocks import Block, Content
from turnstream.wires.openai_chat.stop_reasons import dump_stop_reason
from turnstream.wires.openai_chat.thinking_blocks import THINKING_BLOCKS, dump_thinking_blocks
from turnstream.wires.openai_chat.usage import write_usage
from turnstream.wires.shared.histories import media_url, metadata_of
from turnstream.wires.shared.json_values import JsonObject, list_in
from turnstream.wires.shared.lenient_json import encode_json


def encode_answer(answer: Answer) -> bytes:
    """Return the chat.completion object. Thinking goes into `reasoning_content`, as in DeepSeek's API.

    Content that the stream's encoder leaves out is left out here too.
    """
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
            "created": answer.created,
            "model": answer.model,
            "choices": [choice],
            "usage": write_usage(answer.usage, answer.raw_usage),
        }
    )


def _dump_message(blocks: Sequence[Block]) -> JsonObject:
    collected: dict[str, list[str]] = {"content": [], "refusal": [], "reasoning_content": []}
    more: dict[str, list[Any]] = {"annotations": [], "reasoning_details": [], "images": [], "tool_calls": []}
    for block in blocks:
        content = block.content or {}
        extra = metadata_of(content)
        match block.block_type:
            case "text":
                collected["refusal" if extra.get("refusal") else "content"].append(block.text_content or "")
                more["annotations"] += list_in(content, "citations")
            case "thinking":
                collected["reasoning_content"].append(block.text_content or "")
                more["reasoning_details"] += list_in(extra, "reasoning_details")
            case "tool_use" if not content.get("provider_executed"):
                more["tool_calls"].append(_dump_call(content))
            case "image":
                more["images"].append({"type": "image_url", "image_url": {"url": media_url(content)}})
            case _:
                pass
    if entries := dump_thinking_blocks(blocks):
        more[THINKING_BLOCKS] = entries
    texts = {name: "".join(pieces) or None for name, pieces in collected.items()}
    thought = texts.pop("reasoning_content")
    return {
        "role": "assistant",
        **texts,
        **({"reasoning_content": thought} if thought else {}),
        **{name: items for name, items in more.items() if items},
    }


def _dump_call(content: Content) -> JsonObject:
    """Return the call with its original arguments, valid or not."""
    text = content.get("input_json") or encode_json(content.get("input") or {}).decode()
    function = {"name": content.get("tool_name", ""), "arguments": text}
    return {"id": content.get("tool_use_id", ""), "type": "function", "function": function}
