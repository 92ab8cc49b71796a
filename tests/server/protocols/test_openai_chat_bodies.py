"""Bodies of Chat Completions: long conversations that clients resend, and bodies of any form."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.protocols.test_openai_chat import CHAT, WEATHER, asked, running, user


class Size(NamedTuple):
    """Return the number of a database's rows, and of the characters in them."""

    rows: int
    characters: int


def size_of(database: Path) -> Size:
    found = Size(0, 0)
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            columns = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
            lengths = " + ".join(f"coalesce(length({column}), 0)" for column in columns)
            rows, characters = connection.execute(
                f"SELECT count(*), coalesce(sum({lengths}), 0) FROM {table}"
            ).fetchone()
            found = Size(found.rows + rows, found.characters + characters)
    connection.close()
    return found


@pytest.mark.requirement("N5", "P2")
async def test_a_conversation_of_200_requests_stores_each_message_once(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        messages: list[dict[str, Any]] = [{"role": "system", "content": "Be brief."}]
        sizes: list[Size] = []
        for number in range(200):
            messages.append(user(f"question {number:03d} " + "x" * 200))
            answer = await client.call("POST", CHAT, asked(*messages, model="sim/echo:pace=0"))
            messages.append(answer.json["choices"][0]["message"])
            if number in (99, 199):
                sizes.append(size_of(tmp_path / "chats.sqlite"))
        (chat,) = (await native.call("GET", "/chats")).json["chats"]
        page = (await native.call("GET", f"/chats/{chat['id']}/turns?limit=1")).json
        assert len(page["turns"]) == 1
    half, whole = sizes
    assert whole.rows - half.rows == pytest.approx(half.rows, rel=0.1)
    assert whole.characters - half.characters == pytest.approx(half.characters, rel=0.1)


@pytest.mark.requirement("N5", "N7")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"messages": [user("hi")], "response_format": {"type": "json_object"}}),
        ("/responses", {"input": "hi", "text": {"format": {"type": "json_object"}}}),
        ("/responses", {"input": "hi", "text": {"format": {"type": "json_object"}}, "background": True}),
    ],
)
async def test_what_the_models_api_cannot_say_is_the_clients_mistake(
    tmp_path: Path, path: str, fields: dict[str, Any], streamed: bool
) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", path, {"model": "sim/echo", "stream": streamed, **fields})
        (chat,) = (await native.call("GET", "/chats")).json["chats"]
        turn = (await native.call("GET", f"/turns/{chat['active_turn_id']}")).json
        assert turn["error"]["code"] == "invalid_request"
        if streamed:
            assert b"json_schema" in answer.body
            assert b"server_error" not in answer.body
        elif "background" not in fields:  # its answer comes before the model is called
            assert answer.status == 400
            assert answer.json["error"]["type"] == "invalid_request_error"
            assert "json_schema" in answer.json["error"]["message"]


TEXTS = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "file", "input_audio", "refusal"])},
    optional={
        "text": TEXTS | st.integers(),
        "image_url": st.sampled_from([{"url": "data:image/png;base64,aGk="}, {"url": ""}, {}, 7]),
        "file": st.sampled_from([{"file_data": "data:text/plain;base64,aGk="}, {"file_id": "f"}, None]),
    },
)
CALLS = st.fixed_dictionaries(
    {"id": TEXTS, "type": st.just("function")},
    optional={
        "function": st.fixed_dictionaries(
            {"name": st.sampled_from(["weather", ""]), "arguments": st.sampled_from(["{}", "{", "7"]) | TEXTS}
        )
    },
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "developer", "function", "x"])},
    optional={
        "content": st.none() | TEXTS | st.lists(PARTS, max_size=3) | JSON,
        "tool_calls": st.none() | st.lists(CALLS, max_size=2) | JSON,
        "tool_call_id": TEXTS | st.integers(),
        "name": TEXTS,
        "refusal": st.none() | TEXTS,
        "thinking_blocks": JSON,
        "reasoning_details": JSON,
    },
)
BODIES = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGES, max_size=4) | JSON},
    optional={
        "model": st.sampled_from(["sim/echo:pace=0", "sim/tools:pace=0", "nowhere", "", 7]),
        "stream": st.booleans() | JSON,
        "tools": st.lists(st.just(WEATHER) | JSON, max_size=2) | JSON,
        "tool_choice": st.sampled_from(["auto", "none", "required", {}]) | JSON,
        "response_format": st.sampled_from([{"type": "json_object"}, {"type": "text"}]) | JSON,
        "stop": TEXTS | st.lists(TEXTS, max_size=2) | JSON,
        "max_tokens": st.integers(-1, 9) | JSON,
        "temperature": st.floats(-1, 3, allow_nan=False) | JSON,
        "n": st.sampled_from([1, 2, None]) | JSON,
        "metadata": st.dictionaries(TEXTS, TEXTS, max_size=2) | JSON,
        "fallbacks": st.sampled_from([["sim/echo"], ["x"]]) | JSON,
        "server_tools": st.sampled_from([["clock"], ["x"], []]) | JSON,
        "store": st.booleans() | JSON,
        "reasoning_effort": st.sampled_from(["low", "none"]) | JSON,
        "seed": JSON,
        "extra_body": JSON,
        "wire_params": JSON,
        "prompt": JSON,
    },
)


@pytest.mark.requirement("N5")
def test_no_body_is_an_internal_error_and_a_refused_one_stores_nothing(tmp_path: Path) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(body=BODIES | JSON)
    def example(body: Any) -> None:
        async def ask() -> None:
            before = (await native.call("GET", "/chats?limit=100")).json
            answer = await client.call("POST", CHAT, body)
            assert answer.status in {200, 400, 404, 409, 413}, (body, answer)
            if answer.status != 200:
                assert answer.json["error"]["message"], body
                assert answer.json["error"]["type"]
                turn = await native.call("GET", f"/turns/{answer.headers['x-request-id']}")
                if turn.status == 404:  # refused, not failed
                    assert (await native.call("GET", "/chats?limit=100")).json == before

        loop.run_until_complete(ask())

    async def enter() -> Any:
        return await manager.__aenter__()

    manager = running(tmp_path)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        client, native = runner.run(enter())
        try:
            example()
        finally:
            runner.run(manager.__aexit__(None, None, None))
