"""The table of `test_requests`: calls as we make them, and as official clients make them.

A row names the call and gives our request. For anthropic, openai and ollama it also has the keyword arguments
of the same call by the client's documentation. The other clients' arguments are in `NAME_calls.py`. Where a
client is missing, `request_clients` says why.
"""

from __future__ import annotations

from tests.clients.request_builders import (
    ANTHROPIC_CALL,
    ANTHROPIC_TOOL,
    ASKED_TOOL,
    CALL,
    CLOSED,
    FORMAT,
    FUNCTION,
    ITEM,
    MARK,
    OLLAMA_CALL,
    OPENAI_CALL,
    OPENAI_FORMAT,
    OPENAI_TOOL,
    REASONING,
    RESULT,
    SCHEMA,
    SIGNATURE,
    TOOL,
    Case,
    asked,
    block,
    everywhere,
    said,
    user,
)
from tests.clients.request_content_cases import CONTENT_CASES
from turnstream.core.blocks import Block
from turnstream.wires.base import ToolDefinition

CASES = (
    *CONTENT_CASES,
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
