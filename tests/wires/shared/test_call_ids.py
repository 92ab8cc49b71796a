"""Ids of tool calls that the next provider would refuse are replaced, in the call and in its result."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.blocks import Block, Message
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.shared.call_ids import ANY, NINE_CHARACTERS, TEXTS_OF_40, WORDS_OF_64, with_fitting_ids

pytestmark = pytest.mark.fault(29)

BAD = [
    "functions.x:0",
    "functions.x:1",
    "a|b",
    "a_b",
    "a/b",
    "x" * 65,
    "x" * 66,
    "",
    "é",
    "call\n",
    "toolu_01",
]
RULES = [
    ("anthropic", "claude-sonnet-5-5", r"[a-zA-Z0-9_-]{1,64}"),
    ("bedrock", "us.anthropic.claude-v5:0", r"[a-zA-Z0-9_-]{1,64}"),
    ("openai-responses", "gpt-6", r"(?s).{1,64}"),
    ("openai-chat", "gpt-6", r"(?s).{1,40}"),
    ("openai-chat", "my-deployment", r"(?s).{0,40}"),
    ("openai-chat", "anthropic/claude-sonnet-5", r"[a-zA-Z0-9_-]{1,64}"),
    ("openai-chat", "mistral-large-latest", r"[a-zA-Z0-9]{9}"),
    ("openai-chat", "mistralai/Devstral-Small", r"[a-zA-Z0-9]{9}"),
    ("openai-chat", "open-mixtral-8x22b", r"[a-zA-Z0-9]{9}"),
]


def history(ids: Sequence[str]) -> tuple[Message, ...]:
    """One step that made all calls at once, then one step for each call."""
    calls = [call(identity, n) for n, identity in enumerate(ids)]
    results = [result(identity, n) for n, identity in enumerate(ids)]
    single = [
        message
        for n, identity in enumerate(ids)
        for message in (
            Message("assistant", (call(f"{identity}+", n),)),
            Message("user", (result(f"{identity}+", n),)),
        )
    ]
    start = Message("user", (Block(0, "text", "go"),))
    return (start, Message("assistant", tuple(calls)), Message("user", tuple(results)), *single)


def call(identity: str, n: int) -> Block:
    content = {"tool_use_id": identity, "tool_name": "f", "input": {"n": n}, "input_json": ""}
    return Block(n, "tool_use", None, content)


def result(identity: str, n: int) -> Block:
    return Block(n, "tool_result", None, {"tool_use_id": identity, "content": f"result {n}"})


def pairs_of(wire: str, model: str, messages: tuple[Message, ...]) -> tuple[list[str], list[str]]:
    """Return the ids of the calls and of the results of a request, in order."""
    body = json.loads(WIRES[wire].encode_request(ModelRequest(model, messages)).body)
    calls: list[str] = []
    results: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                look(item)
        elif isinstance(value, dict):
            kind = value.get("type")
            if kind == "tool_use" or (kind == "function" and "id" in value):
                calls.append(value["id"])
            elif kind == "function_call":
                calls.append(value["call_id"])
            elif "toolUse" in value:
                calls.append(value["toolUse"]["toolUseId"])
            elif "toolResult" in value:
                results.append(value["toolResult"]["toolUseId"])
            elif kind == "tool_result":
                results.append(value["tool_use_id"])
            elif kind == "function_call_output":
                results.append(value["call_id"])
            elif value.get("role") == "tool":
                results.append(value["tool_call_id"])
            else:
                for item in value.values():
                    look(item)

    look(body.get("messages") or body.get("input"))
    return calls, results


@pytest.mark.parametrize(("wire", "model", "pattern"), RULES)
def test_each_provider_gets_ids_that_it_takes(wire: str, model: str, pattern: str) -> None:
    messages = history(BAD)
    calls, results = pairs_of(wire, model, messages)
    assert calls == results
    assert len(set(calls)) == len(calls) == 2 * len(BAD)
    assert all(re.fullmatch(pattern, identity) for identity in calls)
    assert pairs_of(wire, model, messages) == (calls, results)
    longer = (
        *messages,
        Message("assistant", (call("new|one", 0),)),
        Message("user", (result("new|one", 0),)),
    )
    assert pairs_of(wire, model, longer)[0][:-1] == calls, "a longer history begins with the same bytes"


@pytest.mark.parametrize(("wire", "model", "pattern"), RULES)
def test_ids_that_fit_stay(wire: str, model: str, pattern: str) -> None:
    ids = ["abcdefGH1", "toolu0123"] if "9" in pattern.partition("]")[2] else ["toolu_01Ab-c", "call_1"]
    messages = (
        Message("assistant", tuple(call(identity, n) for n, identity in enumerate(ids))),
        Message("user", tuple(result(identity, n) for n, identity in enumerate(ids))),
    )
    assert pairs_of(wire, model, messages) == (ids, ids)


@pytest.mark.parametrize("model", ["kimi-k2-thinking", "moonshotai/Kimi-K2-Instruct"])
def test_kimi_gets_its_own_ids_back(model: str) -> None:
    ids = ["functions.x:0", "functions.x:1"]
    calls, results = pairs_of("openai-chat", model, history(ids)[:3])
    assert calls == results == ids


def test_a_signature_in_an_id_goes_back_to_the_gateway_that_put_it_there() -> None:
    ids = ["call_1__thought__" + "Ab+/=" * 100]
    calls, _ = pairs_of("openai-chat", "gateway/gemini-3", history(ids)[:3])
    assert calls == ids
    (short,), _ = pairs_of("anthropic", "claude-sonnet-5-5", history(ids)[:3])
    assert len(short) <= 64


def test_a_made_id_that_is_taken_becomes_another() -> None:
    (first,) = (block for block in with_fitting_ids(history(["a|b"])[1:2], WORDS_OF_64)[0].blocks)
    taken = (first.content or {})["tool_use_id"]
    calls, results = pairs_of("anthropic", "claude", history(["a|b", taken])[:3])
    assert calls == results
    assert calls[1] == taken
    assert calls[0] != taken


def test_what_a_provider_s_own_tool_was_asked_keeps_its_id() -> None:
    own = {"tool_use_id": "ws|1", "tool_name": "web_search", "input": {}, "provider_executed": True}
    messages = (Message("assistant", (Block(0, "tool_use", None, own), call("a|b", 1))),)
    (message,) = with_fitting_ids(messages, WORDS_OF_64)
    assert (message.blocks[0].content or {})["tool_use_id"] == "ws|1"
    assert (message.blocks[1].content or {})["tool_use_id"] != "a|b"


@given(
    st.lists(st.text("ab|.:_-0é\ud800", max_size=70), unique=True, max_size=8),
    st.sampled_from([TEXTS_OF_40, WORDS_OF_64, NINE_CHARACTERS, ANY]),
)
def test_pairs_stay_pairs(ids: list[str], rule: Any) -> None:
    before = history(ids)
    after = with_fitting_ids(before, rule)
    flat = [(block.block_type, (block.content or {}).get("tool_use_id")) for m in after for block in m.blocks]
    calls = [identity for kind, identity in flat if kind == "tool_use"]
    results = [identity for kind, identity in flat if kind == "tool_result"]
    assert calls == results
    assert len(set(calls)) == len(calls)
    assert all(rule.fits.fullmatch(identity) for identity in calls)
    assert with_fitting_ids(after, rule) is after or with_fitting_ids(after, rule) == after
