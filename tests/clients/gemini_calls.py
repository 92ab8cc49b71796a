"""The calls of `request_cases` as the official google-genai client makes them: `contents` and `config` of
`models.generate_content` and `generate_content_stream`. `{"base64": …}` is replaced by bytes."""

from __future__ import annotations

from tests.clients.request_builders import CLOSED, PDF, PNG, SCHEMA, SIGNATURE, Body

FUNCTION: Body = {
    "name": "get_weather",
    "description": "The weather somewhere",
    "parameters_json_schema": SCHEMA,
}
TOOLS = [{"function_declarations": [FUNCTION]}]
CALL: Body = {"function_call": {"id": "c1", "name": "get_weather", "args": {"city": "Ulm"}}}
ASKED_TOOL: Body = {"role": "user", "parts": [{"text": "Is it raining in Ulm?"}]}
JSON = "application/json"


def user(*parts: Body | str) -> Body:
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts: Body | str) -> Body:
    return {**user(*parts), "role": "model"}


def chosen(**choice: object) -> Body:
    return {"config": {"tools": TOOLS, "tool_config": {"function_calling_config": choice}}}


def result(response: Body) -> Body:
    return user({"function_response": {"id": "c1", "name": "get_weather", "response": response}})


CALLS: dict[str, Body] = {
    "text": {},
    "a stream": {},
    "system and earlier turns": {
        "contents": [user("a"), model("b"), user("c")],
        "config": {"system_instruction": "Be brief."},
    },
    "an image": {
        "contents": [
            user("What is it?", {"inline_data": {"mime_type": "image/png", "data": {"base64": PNG}}})
        ]
    },
    "an image by address": {
        "contents": [user({"file_data": {"file_uri": "https://example.org/a.png"}}, "?")]
    },
    # This API has no names of files; the client refuses a `display_name`.
    "a document": {
        "contents": [user({"inline_data": {"mime_type": "application/pdf", "data": {"base64": PDF}}}, "?")]
    },
    "documents by text and address": {
        "contents": [user("So.", {"file_data": {"file_uri": "https://example.org/a.pdf"}}, "?")]
    },
    "tools": {"config": {"tools": TOOLS}},
    # A schema always describes, and never binds.
    "a tool whose schema binds the model": {
        "config": {"tools": [{"function_declarations": [{**FUNCTION, "parameters_json_schema": CLOSED}]}]}
    },
    # It cannot be told to make one call at a time.
    "any tool, one at a time": chosen(mode="ANY"),
    "one certain tool": chosen(mode="ANY", allowed_function_names=["get_weather"]),
    "a tool's result": {
        "contents": [ASKED_TOOL, model("I'll look.", CALL), result({"output": "rain"})],
        "config": {"tools": TOOLS},
    },
    # Another vendor's thinking stays with us.
    "a failed tool's result, and thinking before the call": {
        "contents": [ASKED_TOOL, model(CALL), result({"error": "rain"})],
        "config": {
            "tools": TOOLS,
            "thinking_config": {"thinking_budget": 2000, "include_thoughts": True},
        },
    },
    "a thinking budget": {"config": {"thinking_config": {"thinking_budget": 2000, "include_thoughts": True}}},
    "an effort": {"config": {"thinking_config": {"thinking_level": "LOW", "include_thoughts": True}}},
    "structured output": {"config": {"response_mime_type": JSON, "response_json_schema": SCHEMA}},
    "any JSON object": {"config": {"response_mime_type": JSON}},
    "sampling": {"config": {"temperature": 0.5, "top_p": 0.9}},
    "stop sequences": {"config": {"stop_sequences": ["END", "\n\n"]}},
    # It caches without being asked.
    "cache hints": {"config": {"system_instruction": "Be brief.", "tools": TOOLS}},
    "what only Gemini knows": {
        "config": {
            "seed": 7,
            "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}],
            "http_options": {"extra_body": {"of_tomorrow": {"x": 1}}},
        }
    },
    "thoughts of Gemini go back": {
        "contents": [
            ASKED_TOOL,
            model(
                {"text": "Hm.", "thought": True, "thought_signature": {"base64": SIGNATURE}},
                {**CALL, "thought_signature": {"base64": SIGNATURE}},
            ),
            result({"output": "rain"}),
        ]
    },
}


def whole(call: Body, *, model: str, limit: int, stream: bool) -> Body:
    config = {"max_output_tokens": limit, **call.get("config", {})}
    return {"contents": "Hi.", "model": model, "stream": stream, **call, "config": config}
