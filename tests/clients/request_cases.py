"""Calls as we make them, and as each official client makes them: the table of `test_requests`.

A row names the call, gives our request, and for each client the keyword arguments with which its documentation would have
the same call made. A client that is missing in a row cannot be asked for that; `test_request_params` has what our wire
says then.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, NamedTuple

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.wires.base import ModelRequest, ToolDefinition

Body = dict[str, Any]

WIRES_OF = {"anthropic": "anthropic", "openai": "openai-chat", "ollama": "ollama"}
MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-4o", "ollama": "llama3.2"}
NEWER = {"anthropic": "claude-opus-5-5", "openai": "gpt-5.1", "ollama": "gpt-oss:20b"}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather somewhere", "parameters": SCHEMA}
OPENAI_TOOL = {"type": "function", "function": FUNCTION}
ANTHROPIC_TOOL = {"name": "get_weather", "description": "The weather somewhere", "input_schema": SCHEMA}
TOOL = ToolDefinition("get_weather", "The weather somewhere", SCHEMA)
MARK = {"type": "ephemeral"}


class Case(NamedTuple):
    """`calls`: keyword arguments by client, without the model, which `models` names, and without what all calls share."""

    name: str
    request: ModelRequest
    calls: dict[str, Body]
    models: dict[str, str] = MODELS

    def ours(self, client: str) -> ModelRequest:
        given = self.request
        params = {"max_tokens": 512, **given.params}
        return ModelRequest(
            self.models[client], given.messages, given.system, given.tools, params, given.stream
        )

    def arguments(self, client: str) -> Body:
        """With the limit of tokens, which each client names otherwise."""
        shared: Body = {"model": self.models[client], "stream": self.request.stream}
        call = self.calls[client]
        limit = self.request.params.get("max_tokens", 512)
        if client == "ollama":
            return {**shared, **call, "options": {"num_predict": limit, **call.get("options", {})}}
        newer = client == "openai" and self.models is NEWER
        return {**shared, "max_completion_tokens" if newer else "max_tokens": limit, **call}


def block(block_type: BlockType, text: str | None = None, /, **content: Any) -> Block:
    return Block(0, block_type, text, content or None)


def user(*blocks: Block | str) -> Message:
    return Message("user", tuple(block("text", b) if isinstance(b, str) else b for b in blocks))


def said(*blocks: Block | str) -> Message:
    return Message("assistant", tuple(block("text", b) if isinstance(b, str) else b for b in blocks))


def asked(*messages: Message, system: str | None = None, stream: bool = False, **params: Any) -> ModelRequest:
    tools = params.pop("tools", ())
    return ModelRequest("", messages or (user("Hi."),), system, tools, params, stream)


def everywhere(anthropic: Body, openai: Body, ollama: Body | None = None) -> dict[str, Body]:
    """Calls that say "Hi." where they say nothing else."""
    hi = {"messages": [{"role": "user", "content": "Hi."}]}
    given = {"anthropic": anthropic, "openai": openai, "ollama": ollama}
    return {client: {**hi, **call} for client, call in given.items() if call is not None}


CALL: Content = {
    "tool_use_id": "c1",
    "tool_name": "get_weather",
    "input": {"city": "Ulm"},
    "input_json": '{"city":"Ulm"}',
}
RESULT: Content = {"tool_use_id": "c1", "content": "rain", "is_error": False}
ASKED_TOOL = {"role": "user", "content": "Is it raining in Ulm?"}
OPENAI_CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Ulm"}'},
}
OLLAMA_CALL = {"id": "c1", "function": {"name": "get_weather", "arguments": {"city": "Ulm"}}}
ANTHROPIC_CALL = {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Ulm"}}
FORMAT = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}
OPENAI_FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}

CASES = (
    Case("text", asked(), everywhere({}, {}, {})),
    Case("a stream", asked(stream=True), everywhere({}, {"stream_options": {"include_usage": True}}, {})),
    Case(
        "system and earlier turns",
        asked(user("a"), said("b"), user("c"), system="Be brief."),
        everywhere(
            {
                "system": "Be brief.",
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b"},
                    {"role": "user", "content": "c"},
                ],
            },
            *[
                {
                    "messages": [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "a"},
                        {"role": "assistant", "content": "b"},
                        {"role": "user", "content": "c"},
                    ]
                }
            ]
            * 2,
        ),
    ),
    Case(
        "an image",
        asked(user("What is it?", block("image", media_type="image/png", data=PNG))),
        everywhere(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is it?"},
                            {
                                "type": "image",
                                "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                            },
                        ],
                    }
                ]
            },
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "What is it?"},
                            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                        ],
                    }
                ]
            },
            {"messages": [{"role": "user", "content": "What is it?", "images": [PNG]}]},
        ),
    ),
    Case(
        "an image by address",
        asked(user(block("image", url="https://example.org/a.png"), "?")),
        everywhere(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
        ),
    ),
    Case(
        "a document",
        asked(user(block("document", media_type="application/pdf", data=PDF, title="a.pdf"), "?")),
        everywhere(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                                "title": "a.pdf",
                            },
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "file",
                                "file": {
                                    "filename": "a.pdf",
                                    "file_data": f"data:application/pdf;base64,{PDF}",
                                },
                            },
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            },
        ),
    ),
    Case(
        "documents by text and address",
        asked(user(block("document", text="So."), block("document", url="https://example.org/a.pdf"), "?")),
        {
            "anthropic": {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "text", "media_type": "text/plain", "data": "So."},
                            },
                            {
                                "type": "document",
                                "source": {"type": "url", "url": "https://example.org/a.pdf"},
                            },
                            {"type": "text", "text": "?"},
                        ],
                    }
                ]
            }
        },
    ),
    Case(
        "tools",
        asked(tools=(TOOL,)),
        everywhere({"tools": [ANTHROPIC_TOOL]}, {"tools": [OPENAI_TOOL]}, {"tools": [OPENAI_TOOL]}),
    ),
    Case(
        "any tool, one at a time",
        asked(tools=(TOOL,), tool_choice="required", parallel_tool_calls=False),
        everywhere(
            {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
            {"tools": [OPENAI_TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        ),
    ),
    Case(
        "one certain tool",
        asked(tools=(TOOL,), tool_choice={"name": "get_weather"}),
        everywhere(
            {"tools": [ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": "get_weather"}},
            {
                "tools": [OPENAI_TOOL],
                "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
            },
        ),
    ),
    Case(
        "a tool's result",
        asked(
            user("Is it raining in Ulm?"),
            said("I'll look.", Block(0, "tool_use", None, CALL)),
            user(Block(0, "tool_result", None, RESULT)),
            tools=(TOOL,),
        ),
        everywhere(
            {
                "tools": [ANTHROPIC_TOOL],
                "messages": [
                    ASKED_TOOL,
                    {
                        "role": "assistant",
                        "content": [{"type": "text", "text": "I'll look."}, ANTHROPIC_CALL],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "rain"}],
                    },
                ],
            },
            {
                "tools": [OPENAI_TOOL],
                "messages": [
                    ASKED_TOOL,
                    {"role": "assistant", "content": "I'll look.", "tool_calls": [OPENAI_CALL]},
                    {"role": "tool", "tool_call_id": "c1", "content": "rain"},
                ],
            },
            {
                "tools": [OPENAI_TOOL],
                "messages": [
                    ASKED_TOOL,
                    {"role": "assistant", "content": "I'll look.", "tool_calls": [OLLAMA_CALL]},
                    {"role": "tool", "tool_name": "get_weather", "tool_call_id": "c1", "content": "rain"},
                ],
            },
        ),
    ),
    Case(
        "a failed tool's result, and thinking before the call",
        asked(
            user("Is it raining in Ulm?"),
            said(block("thinking", "Hm.", signature="c2ln"), Block(0, "tool_use", None, CALL)),
            user(Block(0, "tool_result", None, {**RESULT, "is_error": True})),
            tools=(TOOL,),
            thinking={"budget_tokens": 2000},
            max_tokens=4000,
        ),
        {
            "anthropic": {
                "tools": [ANTHROPIC_TOOL],
                "thinking": {"type": "enabled", "budget_tokens": 2000},
                "messages": [
                    ASKED_TOOL,
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                            ANTHROPIC_CALL,
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "c1",
                                "content": "rain",
                                "is_error": True,
                            }
                        ],
                    },
                ],
            }
        },
    ),
    Case(
        "a thinking budget",
        asked(thinking={"budget_tokens": 2000}, max_tokens=4000),
        {
            "anthropic": {
                **everywhere({}, {})["anthropic"],
                "thinking": {"type": "enabled", "budget_tokens": 2000},
            }
        },
    ),
    Case(
        "an effort",
        asked(thinking={"effort": "low"}),
        everywhere(
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            {"reasoning_effort": "low"},
            {"think": "low"},
        ),
        NEWER,
    ),
    Case(
        "structured output",
        asked(response_format=FORMAT),
        everywhere(
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            {"response_format": OPENAI_FORMAT},
            {"format": SCHEMA},
        ),
    ),
    Case(
        "any JSON object",
        asked(response_format={"type": "json_object"}),
        {
            client: {**call, **more}
            for client, call in everywhere({}, {}, {}).items()
            if (
                more := {
                    "openai": {"response_format": {"type": "json_object"}},
                    "ollama": {"format": "json"},
                }.get(client)
            )
        },
    ),
    Case(
        "sampling and stop sequences",
        asked(temperature=0.5, top_p=0.9, stop=["END", "\n\n"]),
        everywhere(
            # This client no longer knows what only older models take.
            {"stop_sequences": ["END", "\n\n"], "extra_body": {"temperature": 0.5, "top_p": 0.9}},
            {"stop": ["END", "\n\n"], "temperature": 0.5, "top_p": 0.9},
            {"options": {"stop": ["END", "\n\n"], "temperature": 0.5, "top_p": 0.9}},
        ),
    ),
    Case(
        "cache hints",
        asked(system="Be brief.", tools=(TOOL,), cache=True),
        {
            "anthropic": {
                "system": [{"type": "text", "text": "Be brief.", "cache_control": MARK}],
                "tools": [{**ANTHROPIC_TOOL, "cache_control": MARK}],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Hi.", "cache_control": MARK}]}
                ],
            }
        },
    ),
    Case(
        "what only this API knows",
        asked(prompt_cache_key="k", extra_body={"of_tomorrow": {"x": 1}}),
        {
            "openai": {
                **everywhere({}, {})["openai"],
                "prompt_cache_key": "k",
                "extra_body": {"of_tomorrow": {"x": 1}},
            }
        },
    ),
)


class Difference(NamedTuple):
    """A rule that takes out what may differ, for `client`, or all clients where that is None."""

    client: str | None
    reason: str
    apply: Callable[[Body], Body]


def without_empty_fields(body: Body) -> Body:
    return {key: value for key, value in body.items() if value not in (None, [], {})}


def with_stream(body: Body) -> Body:
    return {"stream": False, **body}


def without_auto(body: Body) -> Body:
    return {key: value for key, value in body.items() if (key, value) != ("tool_choice", "auto")}


def with_listed_content(body: Body) -> Body:
    def listed(message: Body) -> Body:
        content = message["content"]
        return (
            {**message, "content": [{"type": "text", "text": content}]}
            if isinstance(content, str)
            else message
        )

    return {**body, "messages": [listed(message) for message in body["messages"]]}


def without_ids(body: Body) -> Body:
    """Calls and results without their ids."""

    def plain(message: Body) -> Body:
        calls = [{k: v for k, v in call.items() if k != "id"} for call in message.get("tool_calls", [])]
        rest = {key: value for key, value in message.items() if key != "tool_call_id"}
        return {**rest, "tool_calls": calls} if calls else rest

    return {**body, "messages": [plain(message) for message in body["messages"]]}


DIFFERENCES = (
    Difference("ollama", "a field that says nothing (null, empty) is left out", without_empty_fields),
    Difference("openai", "`auto` is what a missing tool_choice means", without_auto),
    Difference("anthropic", "text alone is the same as a list of one text block", with_listed_content),
    Difference(
        "ollama",
        "this client leaves out the ids of calls, which newer servers send and take",
        without_ids,
    ),
)
