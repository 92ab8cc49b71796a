"""Conversions between turnstream's params and Gemini's `generationConfig`, thinking and `toolConfig`."""

from __future__ import annotations

import re

from turnstream.wires.gemini.chunks import named
from turnstream.wires.gemini.tools import parse_tool_config
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.normal_params import read_response_format, read_stop
from turnstream.wires.shared.request_bodies import JSON, expect

CONFIG_OF = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "stop": "stopSequences",
}
_PARAM_OF = {field: param for param, field in CONFIG_OF.items()}
CONFIG_FIELDS = frozenset(
    {
        "candidateCount", "seed", "presencePenalty", "frequencyPenalty", "responseModalities",
        "responseMimeType", "responseSchema", "responseJsonSchema", "responseLogprobs", "logprobs",
        "speechConfig", "imageConfig", "mediaResolution", "audioTimestamp",
        "enableEnhancedCivicAnswers", "routingConfig", "modelSelectionConfig", "thinkingConfig",
        "enableAffectiveDialog",
    }
)  # fmt: skip
MAPPED_PARAMS = frozenset(
    {
        "thinking", "tool_choice", "tools", "toolConfig", "response_format", "parallel_tool_calls", "cache",
        "extra_body", "generationConfig",
    }
)  # fmt: skip
_MAPPED_FIELDS = ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model")
_TAKES_BUDGETS_ONLY = re.compile(r"gemini-[12](?!\d)")
_BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576}


def dump_config(model: str, params: JsonObject) -> JsonObject:
    given = params.get("generationConfig")
    config: JsonObject = dict(given) if is_object(given) else {}
    config |= {key: value for key, value in params.items() if key in CONFIG_FIELDS}
    normalized = {**params, "stop": read_stop(params)}
    config |= {
        field: normalized[param]
        for param, field in CONFIG_OF.items()
        if normalized.get(param) not in (None, [])
    }
    if is_object(thinking := params.get("thinking")):
        config["thinkingConfig"] = _dump_thinking(model, thinking)
    if (wanted := read_response_format(params)) is not None:
        of_schema = {} if wanted.schema is None else {"responseJsonSchema": wanted.schema}
        config |= {"responseMimeType": JSON, **of_schema}
    return config


def _dump_thinking(model: str, thinking: JsonObject) -> JsonObject:
    """Return the thinkingConfig for `{budget_tokens}` or `{effort}`.

    Thoughts are included by default. Models before the third generation have no levels, so an effort becomes
    a budget there.
    """
    if thinking.get("type") == "disabled":
        return {"thinkingBudget": 0}
    config = without(thinking, "type", "budget_tokens", "effort", "include_thoughts")
    if (budget := thinking.get("budget_tokens")) is not None:
        config["thinkingBudget"] = budget
    if isinstance(effort := thinking.get("effort"), str):
        if _TAKES_BUDGETS_ONLY.search(model):
            config["thinkingBudget"] = _BUDGETS.get(effort, _BUDGETS["medium"])
        else:
            config["thinkingLevel"] = effort
    if thinking.get("include_thoughts", True):
        config["includeThoughts"] = True
    return config


def parse_params(fields: JsonObject) -> JsonObject:
    params = {key: value for key, value in without(fields, *_MAPPED_FIELDS).items() if value not in ({}, [])}
    config = named(expect(fields.get("generationConfig", {}), dict, "generationConfig"))
    params |= {_PARAM_OF.get(field, field): value for field, value in config.items()}
    schema = params.pop("responseJsonSchema", None)
    if params.get("responseMimeType") == JSON and "responseSchema" not in params:
        del params["responseMimeType"]
        typed = {"type": "json_object"} if schema is None else {"type": "json_schema", "schema": schema}
        params["response_format"] = typed
    elif schema is not None:
        params["responseJsonSchema"] = schema
    if is_object(thinking := params.pop("thinkingConfig", None)):
        params["thinking"] = _parse_thinking(named(thinking))
    tool_config = fields.get("toolConfig")
    if is_object(tool_config):
        params |= parse_tool_config(named(tool_config))
    return params


def _parse_thinking(config: JsonObject) -> JsonObject:
    thinking = dict(config)
    if "thinkingBudget" in thinking:
        thinking["budget_tokens"] = thinking.pop("thinkingBudget")
    if isinstance(level := thinking.get("thinkingLevel"), str):
        del thinking["thinkingLevel"]
        thinking["effort"] = level.lower()
    if not thinking.pop("includeThoughts", False):
        thinking["include_thoughts"] = False
    return thinking
