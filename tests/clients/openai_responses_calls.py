"""The calls of `request_cases` as the official openai client makes them of Responses: arguments of
`responses.create`."""

from __future__ import annotations

from tests.clients.request_builders import CLOSED, FORMAT, PDF, PNG, SCHEMA, Body

TOOL: Body = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather somewhere",
    "parameters": SCHEMA,
    "strict": False,
}
CALL = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city":"Ulm"}'}
ASKED_TOOL = {"role": "user", "content": "Is it raining in Ulm?"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
THINKING = {"effort": "low", "summary": "auto"}


def user(*parts: Body) -> list[Body]:
    return [{"role": "user", "content": list(parts)}]


def text(words: str) -> Body:
    return {"type": "input_text", "text": words}


CALLS: dict[str, Body] = {
    "text": {},
    "a stream": {},
    "system and earlier turns": {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
    },
    "an image": {
        "input": user(
            text("What is it?"), {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
        )
    },
    "an image by address": {
        "input": user({"type": "input_image", "image_url": "https://example.org/a.png"}, text("?"))
    },
    "a document": {
        "input": user(
            {
                "type": "input_file",
                "filename": "a.pdf",
                "file_data": f"data:application/pdf;base64,{PDF}",
            },
            text("?"),
        )
    },
    "documents by text and address": {
        "input": user(text("So."), {"type": "input_file", "file_url": "https://example.org/a.pdf"}, text("?"))
    },
    "tools": {"tools": [TOOL]},
    "a tool whose schema binds the model": {"tools": [{**TOOL, "parameters": CLOSED, "strict": True}]},
    "any tool, one at a time": {
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    },
    "one certain tool": {"tools": [TOOL], "tool_choice": {"type": "function", "name": "get_weather"}},
    "a tool's result": {
        "tools": [TOOL],
        "input": [ASKED_TOOL, {"role": "assistant", "content": "I'll look."}, CALL, RESULT],
    },
    # Another vendor's thinking stays with us; no field marks a failed tool, so the result's text says it.
    "a failed tool's result, and thinking before the call": {
        "tools": [TOOL],
        "reasoning": THINKING,
        "input": [ASKED_TOOL, CALL, {**RESULT, "output": "Error: rain"}],
    },
    # The request has only an effort.
    "a thinking budget": {"reasoning": THINKING},
    "an effort": {"reasoning": THINKING},
    "structured output": {"text": {"format": FORMAT}},
    "any JSON object": {"text": {"format": {"type": "json_object"}}},
    "sampling": {"temperature": 0.5, "top_p": 0.9},
    # It caches without being asked.
    "cache hints": {"instructions": "Be brief.", "tools": [TOOL]},
    "what only OpenAI knows": {"prompt_cache_key": "k", "extra_body": {"of_tomorrow": {"x": 1}}},
    "reasoning of OpenAI goes back": {
        "input": [
            ASKED_TOOL,
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "c2ln",
            },
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "I'll look.", "annotations": []}],
            },
            CALL,
            RESULT,
        ]
    },
}


def whole(call: Body, *, model: str, limit: int, stream: bool) -> Body:
    """A call with what all share: nothing is kept, so reasoning comes encrypted."""
    return {
        "input": "Hi.",
        "model": model,
        "max_output_tokens": limit,
        "stream": stream,
        "store": False,
        "include": ["reasoning.encrypted_content"],
        **call,
    }
