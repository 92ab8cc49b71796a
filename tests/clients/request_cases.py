"""Calls as we make them, and as official clients make them: the table of `test_requests`.

A row names the call, gives our request, and for anthropic, openai and ollama the keyword arguments with which the client's
documentation would have the same call made; the other clients' are in `NAME_calls.py`. Where a client is missing,
`request_clients` says why it cannot be asked for that.
"""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.wires.base import ModelRequest, ToolDefinition

Body = dict[str, Any]

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()
SIGNATURE = base64.b64encode(b"\xfb\xff\xfe").decode()
"""With the characters that base64 has two of."""
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**SCHEMA, "additionalProperties": False}
FUNCTION = {"name": "get_weather", "description": "The weather somewhere", "parameters": SCHEMA}
OPENAI_TOOL = {"type": "function", "function": FUNCTION}
ANTHROPIC_TOOL = {"name": "get_weather", "description": "The weather somewhere", "input_schema": SCHEMA}
TOOL = ToolDefinition("get_weather", "The weather somewhere", SCHEMA)
MARK = {"type": "ephemeral"}


class Case(NamedTuple):
    """`calls`: keyword arguments by client, without what all calls of a client share. `newer`: it is made of the client's
    newer model."""

    name: str
    request: ModelRequest
    calls: dict[str, Body] = {}
    newer: bool = False

    @property
    def limit(self) -> int:
        return self.request.params.get("max_tokens", 512)

    def ours(self, model: str) -> ModelRequest:
        given = self.request
        params = {"max_tokens": self.limit, **given.params}
        return ModelRequest(model, given.messages, given.system, given.tools, params, given.stream)


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
REASONING = {"type": "reasoning", "id": "rs_1", "encrypted_content": "c2ln"}
ITEM = {"type": "message", "id": "msg_1"}
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
        "a tool whose schema binds the model",
        asked(tools=(ToolDefinition("get_weather", "The weather somewhere", CLOSED, strict=True),)),
        everywhere(
            {"tools": [{**ANTHROPIC_TOOL, "input_schema": CLOSED, "strict": True}]},
            {"tools": [{"type": "function", "function": {**FUNCTION, "parameters": CLOSED, "strict": True}}]},
        ),
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
        everywhere({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"reasoning_effort": "low"}),
    ),
    Case(
        "an effort",
        asked(thinking={"effort": "low"}),
        everywhere(
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            {"reasoning_effort": "low"},
            {"think": "low"},
        ),
        newer=True,
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
        "sampling",
        asked(temperature=0.5, top_p=0.9),
        everywhere(
            # This client no longer knows what only older models take.
            {"extra_body": {"temperature": 0.5, "top_p": 0.9}},
            {"temperature": 0.5, "top_p": 0.9},
            {"options": {"temperature": 0.5, "top_p": 0.9}},
        ),
    ),
    Case(
        "stop sequences",
        asked(stop=["END", "\n\n"]),
        everywhere(
            {"stop_sequences": ["END", "\n\n"]},
            {"stop": ["END", "\n\n"]},
            {"options": {"stop": ["END", "\n\n"]}},
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
        "what only OpenAI knows",
        asked(prompt_cache_key="k", extra_body={"of_tomorrow": {"x": 1}}),
        {
            "openai": {
                **everywhere({}, {})["openai"],
                "prompt_cache_key": "k",
                "extra_body": {"of_tomorrow": {"x": 1}},
            }
        },
    ),
    Case(
        "what only Gemini knows",
        asked(
            seed=7,
            safety_settings=[
                {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"},
            ],
            extra_body={"of_tomorrow": {"x": 1}},
        ),
    ),
    Case(
        "what only Bedrock knows",
        asked(
            top_k=40,
            serviceTier={"type": "flex"},
            requestMetadata={"team": "a"},
            additionalModelRequestFields={"of_tomorrow": {"x": 1}},
        ),
    ),
    Case(
        "an image and a document in a bucket",
        asked(
            user(
                block("image", url="s3://bucket/a.jpg"),
                block("document", url="s3://bucket/b.docx", title="b"),
                "?",
            )
        ),
    ),
    Case(
        "reasoning of OpenAI goes back",
        asked(
            user("Is it raining in Ulm?"),
            said(
                block("thinking", "Hm.", provider_metadata={"responses": REASONING}),
                block("text", "I'll look.", provider_metadata={"responses": ITEM}),
                Block(0, "tool_use", None, CALL),
            ),
            user(Block(0, "tool_result", None, RESULT)),
        ),
    ),
    Case(
        "thoughts of Gemini go back",
        asked(
            user("Is it raining in Ulm?"),
            said(
                block("thinking", "Hm.", signature=SIGNATURE, provider_metadata={"part": "thought"}),
                Block(0, "tool_use", None, {**CALL, "provider_metadata": {"thoughtSignature": SIGNATURE}}),
            ),
            user(Block(0, "tool_result", None, RESULT)),
        ),
        newer=True,
    ),
    Case(
        "hidden thoughts go back",
        asked(
            user("Hi."),
            said(block("thinking", "", redacted=SIGNATURE), "Hello."),
            user("And?"),
        ),
        {
            "anthropic": {
                "messages": [
                    {"role": "user", "content": "Hi."},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "redacted_thinking", "data": SIGNATURE},
                            {"type": "text", "text": "Hello."},
                        ],
                    },
                    {"role": "user", "content": "And?"},
                ]
            }
        },
    ),
)
