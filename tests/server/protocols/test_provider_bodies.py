"""Bodies of any form for Anthropic Messages and Ollama. None causes an internal error, and a refused body
stores nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.live import Client, serving
from turnstream.engine import Engine

TEXTS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MODELS = st.sampled_from(["sim/echo:pace=0", "sim/tools:pace=0", "sim/echo:latest", "nowhere", "", 7])
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}}
SOURCES = st.sampled_from(
    [
        {"type": "base64", "media_type": "image/png", "data": "aGk="},
        {"type": "base64", "media_type": "x", "data": "?"},
        {"type": "text", "media_type": "text/plain", "data": "hi"},
        {"type": "url", "url": "https://example.com/a.png"},
        {},
        7,
    ]
)
BLOCKS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result", "x", 7]
        )
    },
    optional={
        "text": TEXTS | JSON,
        "source": SOURCES | JSON,
        "thinking": TEXTS | JSON,
        "signature": TEXTS | st.sampled_from(["turnstream1.e30.x.y", "turnstream1...", "."]) | JSON,
        "data": TEXTS | JSON,
        "id": TEXTS | JSON,
        "name": st.sampled_from(["weather", ""]) | JSON,
        "input": JSON,
        "tool_use_id": TEXTS | JSON,
        "content": TEXTS | JSON,
        "is_error": st.booleans() | JSON,
        "origin": JSON,
        "cache_control": st.just({"type": "ephemeral"}) | JSON,
    },
)
COMMON: dict[str, Any] = {
    "model": MODELS,
    "stream": st.booleans() | JSON,
    "fallbacks": st.sampled_from([["sim/echo"], ["x"]]) | JSON,
    "server_tools": st.sampled_from([["x"], []]) | JSON,
    "store": st.booleans() | JSON,
    "extra_body": JSON,
    "wire_params": JSON,
}
MESSAGES_BODIES = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "user", "assistant", "system", 7])},
                optional={"content": TEXTS | st.lists(BLOCKS, max_size=3) | JSON},
            ),
            max_size=4,
        )
        | JSON
    },
    optional={
        **COMMON,
        "max_tokens": st.integers(-1, 9) | JSON,
        "system": TEXTS | st.lists(BLOCKS, max_size=2) | JSON,
        "tools": st.lists(st.just({"name": "weather", "input_schema": SCHEMA}) | JSON, max_size=2) | JSON,
        "tool_choice": st.sampled_from([{"type": "auto"}, {"type": "tool", "name": "w"}, {"type": "any"}])
        | JSON,
        "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 9}, {"type": "disabled"}]) | JSON,
        "output_config": st.sampled_from([{"effort": "low"}, {"format": {"type": "json_schema"}}]) | JSON,
        "stop_sequences": st.lists(TEXTS, max_size=2) | JSON,
        "metadata": st.sampled_from([{"user_id": "u"}, {"user_id": 7}, {}]) | JSON,
        "temperature": st.floats(-1, 3, allow_nan=False) | JSON,
    },
)
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "id": TEXTS,
        "function": st.fixed_dictionaries(
            {"name": st.sampled_from(["weather", "", 7])}, optional={"arguments": JSON}
        )
        | JSON,
    },
)
OLLAMA_MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "user", "assistant", "tool", "system", "x", 7])},
    optional={
        "content": TEXTS | JSON,
        "parts": JSON,
        "images": st.lists(TEXTS, max_size=2) | JSON,
        "thinking": TEXTS | JSON,
        "tool_calls": st.lists(CALLS, max_size=2) | JSON,
        "tool_name": TEXTS | JSON,
        "tool_call_id": TEXTS | JSON,
    },
)
OLLAMA_BODIES = st.fixed_dictionaries(
    {},
    optional={
        **COMMON,
        "messages": st.lists(OLLAMA_MESSAGES, max_size=4) | JSON,
        "prompt": TEXTS | JSON,
        "system": TEXTS | JSON,
        "images": st.lists(TEXTS, max_size=2) | JSON,
        "tools": st.lists(
            st.just({"type": "function", "function": {"name": "w", "parameters": SCHEMA}}) | JSON
        ),
        "format": st.sampled_from(["json", SCHEMA, ""]) | JSON,
        "options": st.sampled_from([{"num_predict": 9, "stop": "x", "num_ctx": 1}, {"stop": 7}]) | JSON,
        "think": st.booleans() | st.sampled_from(["low", "x"]) | JSON,
        "keep_alive": st.sampled_from([0, "5m"]) | JSON,
        "suffix": TEXTS,
        "raw": st.booleans() | JSON,
        "context": JSON,
        "id": TEXTS,
    },
)
CASES = {
    "/v1/messages": MESSAGES_BODIES,
    "/v1/messages/count_tokens": MESSAGES_BODIES,
    "/api/chat": OLLAMA_BODIES,
    "/api/generate": OLLAMA_BODIES,
    "/api/show": OLLAMA_BODIES,
}
TURN_IDS = ("request-id", "x-request-id")


def message_of(error: Any) -> str:
    """Return the message of an error body, in the form of any protocol."""
    return error if isinstance(error, str) else error["message"]


@pytest.mark.requirement("N6", "N7")
@pytest.mark.parametrize("path", CASES)
def test_no_body_is_an_internal_error_and_a_refused_one_stores_nothing(tmp_path: Path, path: str) -> None:
    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(body=CASES[path] | JSON)
    def example(body: Any) -> None:
        async def ask() -> None:
            before = (await native.call("GET", "/chats?limit=100")).json
            answer = await client.call("POST", path, body)
            assert answer.status in {200, 400, 404, 409, 413}, (body, answer)
            if answer.status == 200:
                return
            assert message_of(answer.json["error"]), body
            turn_id = next((answer.headers[name] for name in TURN_IDS if name in answer.headers), "")
            if (await native.call("GET", f"/turns/{turn_id}")).status != 200:
                assert (await native.call("GET", "/chats?limit=100")).json == before

        runner.run(ask())

    async def enter() -> int:
        return await server.__aenter__()

    server = serving(Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}").application())
    with asyncio.Runner() as runner:
        port = runner.run(enter())
        client, native = Client(port, prefix=""), Client(port)
        try:
            example()
        finally:
            runner.run(server.__aexit__(None, None, None))
