"""Any body gets an answer or a refusal, never an internal error. A refusal stores nothing."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.protocols.openai_responses.world import RESPONSES, WEATHER, running

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.sampled_from(["hi", "", " ", "\u0000", "é🙂"])
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["input_text", "output_text", "refusal"]), "text": TEXTS}),
    st.fixed_dictionaries({"type": st.just("input_image"), "image_url": TEXTS | JSON}),
    st.fixed_dictionaries({"type": st.just("input_file"), "file_data": TEXTS | JSON, "filename": TEXTS}),
    JSON,
)
ROLES = st.sampled_from(["user", "assistant", "system", "developer", "tool"])
ITEMS = st.one_of(
    st.fixed_dictionaries({"role": ROLES, "content": TEXTS | st.lists(PARTS, max_size=3)}),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "call_id": TEXTS, "name": TEXTS, "arguments": TEXTS}
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call_output"), "call_id": TEXTS, "output": TEXTS | JSON}
    ),
    st.fixed_dictionaries({"type": st.just("reasoning"), "summary": JSON, "encrypted_content": TEXTS | JSON}),
    st.fixed_dictionaries({"type": st.just("item_reference"), "id": TEXTS | JSON}),
    st.fixed_dictionaries({"type": st.just("mcp_call"), "id": TEXTS, "server_label": st.just("turnstream")}),
    JSON,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "input": TEXTS | st.lists(ITEMS, max_size=3) | JSON,
        "instructions": TEXTS | JSON,
        "tools": st.lists(st.just(WEATHER) | JSON, max_size=2) | JSON,
        "tool_choice": st.just("auto") | JSON,
        "previous_response_id": st.sampled_from(["resp_1", "resp_" + "0" * 32]) | JSON,
        "conversation": st.just({"id": "conv_1"}) | JSON,
        "store": st.booleans() | JSON,
        "background": st.booleans() | JSON,
        "stream": st.booleans() | JSON,
        "metadata": st.just({"a": "b"}) | JSON,
        "reasoning": st.just({"effort": "low"}) | JSON,
        "text": st.just({"format": {"type": "json_object"}}) | JSON,
        "include": JSON,
        "truncation": JSON,
        "max_output_tokens": st.integers(1, 9) | JSON,
        "temperature": JSON,
        "server_tools": st.just(["clock"]) | JSON,
        "fallbacks": st.just(["sim/echo"]) | JSON,
        "service_tier": JSON,
    },
)
ADDRESSES = st.sampled_from([RESPONSES, RESPONSES, RESPONSES, f"{RESPONSES}/input_tokens", "/conversations"])


@pytest.mark.requirement("N5")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(ADDRESSES, FIELDS, JSON), min_size=1, max_size=25))
def test_no_body_fails_in_the_server(requests: list[tuple[str, dict[str, Any], Any]]) -> None:
    async def example(folder: Path) -> None:
        async with running(folder) as (client, native):
            chats = 0
            for path, fields, any_json in requests:
                body = {"model": "sim/echo", "input": "hi", **fields}
                for sent in (body, fields, any_json):
                    answer = await client.call("POST", path, sent)
                    assert answer.status < 500, (path, sent, answer)
                    listed = (await native.call("GET", "/chats?limit=100")).json["chats"]
                    if answer.status >= 400:
                        assert answer.json["error"]["message"]
                        if len(listed) != chats:  # the model's API has no way to say it: the turn failed
                            turn = await native.call("GET", f"/turns/{listed[0]['active_turn_id']}")
                            assert turn.json["error"]["code"] == "invalid_request", (path, sent, answer)
                    chats = len(listed)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(example(Path(folder)))
