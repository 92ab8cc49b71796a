"""The model calls of a turn, and its conversation, in the form of OpenTelemetry's conventions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnstream.core.blocks import Block
from turnstream.core.usage import Usage
from turnstream.model_loop.model_call import ModelCall
from turnstream.providers.rates import INPUT_EXCLUDES_CACHE
from turnstream.telemetry.tracing import FINISH_REASONS, TracedCall


def traced_calls(calls: Sequence[ModelCall]) -> list[TracedCall]:
    """Return the calls of known models. Estimated tokens are left out."""
    traced: list[TracedCall] = []
    for call in calls:
        if call.model is None:
            continue
        usage = Usage() if call.estimated else call.usage
        given = usage.input_tokens
        if given is not None and call.model.wire in INPUT_EXCLUDES_CACHE:
            given += (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
        traced.append(
            TracedCall(
                call.model.provider,
                call.model.model,
                call.started_at,
                call.duration,
                error=None if call.outcome in {"", "complete"} else call.outcome,
                response_id=call.response_id,
                response_model=call.response_model,
                stop_reason=call.stop_reason,
                input_tokens=given,
                output_tokens=usage.output_tokens,
                cache_read_tokens=usage.cache_read_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                first_output=call.first_output,
            )
        )
    return traced


def traced_message(role: str, blocks: Sequence[Block], stop_reason: str | None = None) -> dict[str, Any]:
    """Return a message for a span."""
    message: dict[str, Any] = {"role": role, "parts": [_part(block) for block in blocks]}
    if stop_reason is not None:
        message["finish_reason"] = FINISH_REASONS.get(stop_reason, stop_reason)
    return message


def _part(block: Block) -> dict[str, Any]:
    content = block.content or {}
    match block.block_type:
        case "text":
            return {"type": "text", "content": block.text_content or ""}
        case "thinking":
            return {"type": "reasoning", "content": block.text_content or ""}
        case "tool_use":
            call = {"id": content.get("tool_use_id"), "name": content.get("tool_name")}
            return {"type": "tool_call", **call, "arguments": content.get("input")}
        case "tool_result":
            result = {"id": content.get("tool_use_id"), "result": content.get("content")}
            return {"type": "tool_call_response", **result}
        case other:
            return {"type": other}
