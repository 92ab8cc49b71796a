"""The calls of `request_cases` as boto3 makes them: arguments of `converse` and `converse_stream`.
`{"base64": …}` stands
for bytes."""

from __future__ import annotations

import json

from tests.clients.request_builders import CLOSED, PDF, PNG, SCHEMA, SIGNATURE, Body

SPEC: Body = {
    "name": "get_weather",
    "description": "The weather somewhere",
    "inputSchema": {"json": SCHEMA},
}
TOOL: Body = {"toolSpec": SPEC}
TOOLS: Body = {"toolConfig": {"tools": [TOOL]}}
CALL: Body = {"toolUse": {"toolUseId": "c1", "name": "get_weather", "input": {"city": "Ulm"}}}
RESULT: Body = {"toolUseId": "c1", "content": [{"text": "rain"}]}
CACHE: Body = {"cachePoint": {"type": "default"}}
BUDGET: Body = {"thinking": {"type": "enabled", "budget_tokens": 2000}}


def user(*blocks: Body | str) -> Body:
    return {
        "role": "user",
        "content": [{"text": block} if isinstance(block, str) else block for block in blocks],
    }


def said(*blocks: Body | str) -> Body:
    return {**user(*blocks), "role": "assistant"}


def document(name: str, form: str, source: Body) -> Body:
    return {"document": {"name": name, "format": form, "source": source}}


CALLS: dict[str, Body] = {
    "text": {},
    "a stream": {},
    "system and earlier turns": {
        "system": [{"text": "Be brief."}],
        "messages": [user("a"), said("b"), user("c")],
    },
    "an image": {
        "messages": [user("What is it?", {"image": {"format": "png", "source": {"bytes": {"base64": PNG}}}})]
    },
    # A name may have no dot.
    "a document": {"messages": [user(document("a pdf", "pdf", {"bytes": {"base64": PDF}}), "?")]},
    "tools": TOOLS,
    "a tool whose schema binds the model": {
        "toolConfig": {"tools": [{"toolSpec": {**SPEC, "inputSchema": {"json": CLOSED}, "strict": True}}]}
    },
    # Only the model's own words have one call at a time.
    "any tool, one at a time": {
        "toolConfig": {"tools": [TOOL], "toolChoice": {"any": {}}},
        "additionalModelRequestFields": {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    },
    "one certain tool": {"toolConfig": {"tools": [TOOL], "toolChoice": {"tool": {"name": "get_weather"}}}},
    "a tool's result": {
        **TOOLS,
        "messages": [
            user("Is it raining in Ulm?"),
            said("I'll look.", CALL),
            user({"toolResult": RESULT}),
        ],
    },
    "a failed tool's result, and thinking before the call": {
        **TOOLS,
        "additionalModelRequestFields": BUDGET,
        "messages": [
            user("Is it raining in Ulm?"),
            said({"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}}, CALL),
            user({"toolResult": {**RESULT, "status": "error"}}),
        ],
    },
    "a thinking budget": {"additionalModelRequestFields": BUDGET},
    "an effort": {
        "outputConfig": {"effort": "low"},
        "additionalModelRequestFields": {"thinking": {"type": "adaptive"}},
    },
    "structured output": {
        "outputConfig": {
            "textFormat": {
                "type": "json_schema",
                "structure": {"jsonSchema": {"name": "place", "schema": json.dumps(SCHEMA)}},
            }
        }
    },
    "sampling": {"inferenceConfig": {"temperature": 0.5, "topP": 0.9}},
    "stop sequences": {"inferenceConfig": {"stopSequences": ["END", "\n\n"]}},
    "cache hints": {
        "system": [{"text": "Be brief."}, CACHE],
        "toolConfig": {"tools": [TOOL, CACHE]},
        "messages": [user("Hi.", CACHE)],
    },
    "what only Bedrock knows": {
        "serviceTier": {"type": "flex"},
        "requestMetadata": {"team": "a"},
        "additionalModelRequestFields": {"top_k": 40, "of_tomorrow": {"x": 1}},
    },
    "an image and a document in a bucket": {
        "messages": [
            user(
                {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.jpg"}}}},
                document("b", "docx", {"s3Location": {"uri": "s3://bucket/b.docx"}}),
                "?",
            )
        ]
    },
    "hidden thoughts go back": {
        "messages": [
            user("Hi."),
            said({"reasoningContent": {"redactedContent": {"base64": SIGNATURE}}}, "Hello."),
            user("And?"),
        ]
    },
}


def whole(call: Body, *, model: str, limit: int, stream: bool) -> Body:
    inference = {"maxTokens": limit, **call.get("inferenceConfig", {})}
    return {
        "messages": [user("Hi.")],
        "modelId": model,
        "stream": stream,
        **call,
        "inferenceConfig": inference,
    }
