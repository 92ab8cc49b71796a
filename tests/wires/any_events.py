"""Strategies for events of every wire: valid ones, odd ones, and lines as gateways write them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.wires.any_json import WORDS, json_values, scalars

anthropic_events = st.fixed_dictionaries(
    {"type": st.sampled_from(WORDS[:8])},
    optional={
        "index": scalars,
        "message": json_values,
        "content_block": st.fixed_dictionaries(
            {"type": st.sampled_from(WORDS)}, optional={"text": json_values}
        ),
        "delta": st.fixed_dictionaries(
            {"type": st.sampled_from(WORDS)},
            optional={"text": scalars, "partial_json": scalars, "thinking": scalars, "stop_reason": scalars},
        ),
        "usage": json_values,
        "error": json_values,
    },
)
calls = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": scalars,
            "id": scalars,
            "function": st.fixed_dictionaries({}, optional={"name": scalars, "arguments": json_values}),
        },
    )
    | json_values,
    max_size=3,
)
said = st.fixed_dictionaries(
    {},
    optional={
        "content": scalars | json_values,
        "thinking": scalars,
        "reasoning": scalars,
        "reasoning_details": json_values,
        "tool_calls": calls | json_values,
        "images": json_values,
        "extra": json_values,
    },
)
chat_events = st.fixed_dictionaries(
    {},
    optional={
        "id": scalars,
        "choices": st.lists(
            st.fixed_dictionaries(
                {"delta": said | json_values}, optional={"index": scalars, "finish_reason": scalars}
            ),
            max_size=2,
        ),
        "usage": json_values,
        "error": json_values,
    },
)
ollama_events = st.fixed_dictionaries(
    {"message": said | json_values},
    optional={
        "model": scalars,
        "done": scalars,
        "done_reason": scalars,
        "error": json_values,
        "eval_count": scalars,
        "total_duration": scalars,
        "response": scalars,
    },
)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["output_text", "refusal", "summary_text", "reasoning_text", "other"])},
    optional={"text": scalars, "refusal": scalars, "annotations": json_values},
)
items = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "message",
                "reasoning",
                "function_call",
                "custom_tool_call",
                "mcp_call",
                "code_interpreter_call",
                "file_search_call",
                "image_generation_call",
                "web_search_call",
            ]
        )
    },
    optional={
        "id": scalars | json_values,
        "call_id": scalars | json_values,
        "name": scalars | json_values,
        "arguments": scalars | json_values,
        "input": scalars,
        "code": scalars,
        "content": st.lists(parts, max_size=2) | json_values,
        "summary": st.lists(parts, max_size=2) | json_values,
        "output": json_values,
        "outputs": json_values,
        "results": json_values,
        "queries": json_values,
        "result": scalars,
        "error": json_values,
        "encrypted_content": scalars,
        "status": scalars | json_values,
    },
)
responses_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "response.output_text.delta",
                "response.function_call_arguments.delta",
                "response.reasoning_summary_text.delta",
                "response.created",
                "response.output_item.added",
                "response.output_item.done",
                "response.content_part.added",
                "response.content_part.done",
                "response.reasoning_summary_part.added",
                "response.output_text.done",
                "response.function_call_arguments.done",
                "response.refusal.delta",
                "response.output_text.annotation.added",
                "response.completed",
                "response.incomplete",
                "response.failed",
                "response.surprise",
                "error",
            ]
        )
    },
    optional={
        "delta": scalars,
        "text": scalars,
        "arguments": scalars,
        "output_index": scalars,
        "content_index": scalars,
        "sequence_number": scalars,
        "item": items | json_values,
        "part": parts | json_values,
        "annotation": json_values,
        "response": json_values
        | st.fixed_dictionaries(
            {"output": st.lists(items, max_size=2)},
            optional={
                "id": scalars,
                "model": scalars,
                "status": scalars | json_values,
                "usage": json_values,
                "error": json_values,
            },
        ),
        "error": json_values,
        "message": scalars,
    },
)
arguments = st.fixed_dictionaries(
    {
        "jsonPath": st.sampled_from(["$.a", "$.a.b", "$.a[0]", "$.a[1].b", "$.c[0]", "$['d e'].f", "$", "a"])
        | scalars
    },
    optional={"stringValue": scalars, "numberValue": scalars, "nullValue": scalars, "willContinue": scalars},
)
gemini_parts = st.fixed_dictionaries(
    {},
    optional={
        "text": scalars,
        "thought": scalars,
        "thoughtSignature": scalars,
        "functionCall": st.fixed_dictionaries(
            {},
            optional={
                "name": scalars,
                "id": scalars,
                "args": json_values,
                "partialArgs": st.lists(arguments, max_size=4) | json_values,
                "willContinue": scalars,
            },
        ),
        "inlineData": json_values,
        "executableCode": json_values,
        "codeExecutionResult": json_values,
    },
)
gemini_events = st.fixed_dictionaries(
    {},
    optional={
        "candidates": st.lists(
            st.fixed_dictionaries(
                {
                    "content": st.fixed_dictionaries({"parts": st.lists(gemini_parts, max_size=3)})
                    | json_values
                },
                optional={"index": scalars, "finishReason": scalars, "groundingMetadata": json_values},
            ),
            max_size=2,
        ),
        "usageMetadata": json_values,
        "promptFeedback": json_values,
        "responseId": scalars,
        "error": json_values,
    },
)
bedrock_deltas = st.fixed_dictionaries(
    {},
    optional={
        "text": scalars,
        "toolUse": st.fixed_dictionaries({}, optional={"input": json_values}),
        "reasoningContent": st.fixed_dictionaries(
            {}, optional={"text": scalars, "signature": scalars, "redactedContent": scalars}
        ),
        "citation": json_values,
        "toolResult": json_values,
        "image": st.fixed_dictionaries(
            {}, optional={"source": st.fixed_dictionaries({}, optional={"bytes": scalars})}
        ),
        "extra": json_values,
    },
)
bedrock_starts = st.fixed_dictionaries({}, optional={"toolUse": said, "toolResult": said, "image": said})
bedrock_events = st.one_of(
    st.builds(
        lambda index, delta: {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}},
        scalars,
        bedrock_deltas | json_values,
    ),
    st.builds(
        lambda index, start: {"contentBlockStart": {"contentBlockIndex": index, "start": start}},
        scalars,
        bedrock_starts | json_values,
    ),
    st.builds(lambda index: {"contentBlockStop": {"contentBlockIndex": index}}, scalars),
    st.builds(
        lambda name, value: {name: value},
        st.sampled_from(
            [
                "messageStart",
                "messageStop",
                "metadata",
                "throttlingException",
                "modelStreamErrorException",
                "new",
            ]
        ),
        said | json_values,
    ),
    st.builds(lambda reason: {"messageStop": {"stopReason": reason}}, scalars),
    anthropic_events,
)
EVENTS: dict[str, st.SearchStrategy[Any]] = {
    "openai-responses": responses_events,
    "anthropic": anthropic_events,
    "openai-chat": chat_events,
    "ollama": ollama_events,
    "gemini": gemini_events,
    "bedrock": bedrock_events,
}

raw_lines = st.sampled_from(
    [
        b"data: [DONE]",
        b"event: error",
        b"event: message_stop",
        b"data:",
        b": ping",
        b"\xff\xfe",
        b"{",
        b"\r",
        b"id: 1",
    ]
) | st.binary(max_size=12)

LOOSE = [
    b'error: {"code": 429, "message": "slow down"}', b'{"error": {"message": "no"}}', b"{", b'  "error": "no"', b"}", b"<html>",
    b"502 Bad Gateway", b"event: error", b"[DONE]", b"keepalive", b'{"detail": "rate limit"}', b'data: {"a": 1}', b"data: {",
    b'{"type": "message", "content": [{"type": "text", "text": "a"}]}', b'{"object": "response", "output": []}', b"",
]  # fmt: skip
"""Lines as gateways write them, with and without a blank line after them."""
