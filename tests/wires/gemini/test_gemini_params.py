"""Parameters of requests to Gemini, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wires.gemini.requests import SCHEMA, TOOL, ask, body_of
from turnstream.errors import (
    InvalidRequest,
)
from turnstream.wires.gemini.wire import WIRE

# --- params -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("F1")
def test_params_in_our_words() -> None:
    params = {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop": ["a"],
        "thinking": {"budget_tokens": 100},
        "tool_choice": {"name": "f"},
        "response_format": {"type": "json_schema", "name": "n", "schema": SCHEMA},
        "parallel_tool_calls": False,
        "cache": True,
        "seed": 7,
        "presence_penalty": 0.1,
        "safety_settings": [{"category": "c"}],
        "cachedContent": "cachedContents/1",
        "nothing": None,
        "extra_body": {"labels": {"a": "b"}},
    }
    assert body_of(ask(system="be kind", tools=(TOOL,), params=params)) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "generationConfig": {
            "maxOutputTokens": 9,
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 3,
            "stopSequences": ["a"],
            "seed": 7,
            "presencePenalty": 0.1,
            "thinkingConfig": {"thinkingBudget": 100, "includeThoughts": True},
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
        },
        "tools": [
            {"functionDeclarations": [{"name": "f", "description": "does f", "parametersJsonSchema": SCHEMA}]}
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "safetySettings": [{"category": "c"}],
        "cachedContent": "cachedContents/1",
        "labels": {"a": "b"},
    }


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("model", "thinking", "config"),
    [
        ("gemini-3-pro", {"effort": "low"}, {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-2.5-pro", {"effort": "low"}, {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-pro", {"type": "disabled"}, {"thinkingBudget": 0}),
        ("gemini-3-pro", {"budget_tokens": 5, "include_thoughts": False}, {"thinkingBudget": 5}),
        (
            "gemini-3-pro",
            {"type": "enabled", "budget_tokens": 5},
            {"thinkingBudget": 5, "includeThoughts": True},
        ),
    ],
)
def test_thinking(model: str, thinking: Any, config: Any) -> None:
    body = body_of(ask(model=model, params={"thinking": thinking}))
    assert body["generationConfig"]["thinkingConfig"] == config


@pytest.mark.requirement("F1")
@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"name": "f"}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
        (
            {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]},
            {"mode": "VALIDATED", "allowedFunctionNames": ["f", "g"]},
        ),
    ],
)
def test_tool_choice(choice: Any, config: Any) -> None:
    request = ask(tools=(TOOL,), params={"tool_choice": choice})
    encoded = WIRE.encode_request(request)
    assert json.loads(encoded.body)["toolConfig"] == {"functionCallingConfig": config}
    assert WIRE.decode_request(encoded.path, encoded.body) == request
    without_functions = ask(params={"tool_choice": choice, "tools": [{"googleSearch": {}}]})
    assert "toolConfig" not in body_of(without_functions)


@pytest.mark.requirement("F1")
def test_params_as_other_wires_understand_them_too() -> None:
    assert body_of(ask(params={"stop": "a"})) == body_of(ask(params={"stop": ["a"]}))
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    config = body_of(ask(params={"response_format": schema}))["generationConfig"]
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    assert "generationConfig" not in body_of(ask(params={"response_format": {"type": "text"}}))


@pytest.mark.requirement("F1", "K4")
@pytest.mark.parametrize(
    ("param", "value"), [("stop", 5), ("response_format", "json"), ("extra_body", [1]), ("tools", {})]
)
def test_params_that_make_no_sense(param: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=param):
        body_of(ask(params={param: value}))
