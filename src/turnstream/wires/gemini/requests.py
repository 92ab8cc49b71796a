"""Requests to Gemini's generateContent, in both directions.

The model and whether to stream are in the path: `/v1beta/models/MODEL:streamGenerateContent?alt=sse`. A model that is named
with its collection (`tunedModels/…`, `publishers/google/models/…`, `projects/…`) stands there as it is.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.gemini.chunks import named
from turnstream.wires.gemini.contents import dump_contents
from turnstream.wires.gemini.messages import parse_contents, text_of_parts
from turnstream.wires.gemini.tools import dump_tool_config, dump_tools, parse_tool_config, parse_tools
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_mended, mend_surrogates
from turnstream.wires.shared.model_paths import model_path
from turnstream.wires.shared.normal_params import read_extra_body, read_response_format, read_stop, read_tools

_STREAM, _WHOLE = "streamGenerateContent", "generateContent"
_VERSION = re.compile(r"\A/*(?:v\d\w*/)?")
_COLLECTIONS = ("models/", "tunedModels/", "publishers/", "projects/", "endpoints/")

_CONFIG_OF = {
    "max_tokens": "maxOutputTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "stop": "stopSequences",
}
_PARAM_OF = {field: param for param, field in _CONFIG_OF.items()}
_CONFIG_FIELDS = frozenset(
    {
        "candidateCount", "seed", "presencePenalty", "frequencyPenalty", "responseModalities", "responseMimeType",
        "responseSchema", "responseJsonSchema", "responseLogprobs", "logprobs", "speechConfig", "imageConfig",
        "mediaResolution", "audioTimestamp", "enableEnhancedCivicAnswers", "routingConfig", "modelSelectionConfig",
        "thinkingConfig", "enableAffectiveDialog",
    }
)  # fmt: skip
_OUR_PARAMS = frozenset(
    {
        "thinking", "tool_choice", "tools", "toolConfig", "response_format", "parallel_tool_calls", "cache",
        "extra_body", "generationConfig",
    }
)  # fmt: skip
_OUR_FIELDS = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model"})
_TAKES_BUDGETS_ONLY = re.compile(r"gemini-[12](?!\d)")
_BUDGETS = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24576}
_CHECKS_SIGNATURES = re.compile(r"gemini-(?:[3-9]|\d\d)")
_SKIP_CHECK = "skip_thought_signature_validator"
"""What Google takes in place of the signature of a call that another model made."""
_JSON = "application/json"


def encode_request(request: ModelRequest) -> HttpRequest:
    """The POST for `request`.

    Params that Gemini has in its generationConfig go there, under its names or ours; the others into the body, as they
    are. A param that is None is left out. Gemini has no word for `parallel_tool_calls`, and caches by itself what is the
    same as before. Raises InvalidRequest for what this API cannot be asked for.
    """
    params = {_name_of(key): value for key, value in request.params.items() if value is not None}
    body: JsonObject = {"contents": dump_contents(request.messages)}
    body |= {
        key: value
        for key, value in params.items()
        if key not in _OUR_PARAMS and key not in _CONFIG_OF and key not in _CONFIG_FIELDS
    }
    if _CHECKS_SIGNATURES.search(request.model):
        _sign_foreign_parts(body["contents"])
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": request.system}]}
    if config := _dump_config(request.model, params):
        body["generationConfig"] = config
    if tools := dump_tools(request.tools, read_tools(params)):
        body["tools"] = tools
    if tool_config := dump_tool_config(params, tools):
        body["toolConfig"] = tool_config
    body |= read_extra_body(params)
    headers = {"content-type": _JSON, "accept": "text/event-stream" if request.stream else _JSON}
    return HttpRequest(_path_of(request.model, stream=request.stream), headers, encode_mended(body))


def decode_request(path: str, body: bytes) -> ModelRequest:
    """The request that `body` makes of the model in `path`. Raises InvalidRequest.

    Tools that are no plain functions stay in `params["tools"]`, and what else of the toolConfig there is in
    `params["toolConfig"]`; so does what we have no word for, under Gemini's names.
    """
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not is_object(value):
        raise InvalidRequest("the body is not an object")
    fields = named(value)
    contents = fields.get("contents")
    if isinstance(contents, str):
        contents = [{"parts": [{"text": contents}]}]
    if not is_list(contents):
        raise InvalidRequest("contents is not a list")
    model, stream = _parse_path(path, fields)
    tools, others = parse_tools(fields.get("tools"))
    params = _parse_params(fields)
    if others:
        params["tools"] = others
    system = text_of_parts(fields.get("systemInstruction")) or None
    return ModelRequest(model, parse_contents(contents), system, tools, params, stream)


def _path_of(model: str, *, stream: bool) -> str:
    resource = model if model.startswith(_COLLECTIONS) else f"models/{model}"
    call = f"{_STREAM}?alt=sse" if stream else _WHOLE
    return f"/v1beta/{model_path(resource, safe='/:@,=+~-._')}:{call}"


def _parse_path(path: str, fields: JsonObject) -> tuple[str, bool]:
    """The model, and whether it is to stream."""
    resource, _, call = path.partition("?")[0].rpartition(":")
    if call in (_STREAM, _WHOLE):
        resource = unquote(_VERSION.sub("", resource))
        return resource.rpartition("models/")[2] or resource, call == _STREAM
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("the path names no model: /v1beta/models/MODEL:streamGenerateContent")
    return model.removeprefix("models/"), True


def _name_of(param: str) -> str:
    """A param under the name that we know it by: Gemini's own, where it is one of its fields in snake case."""
    if param in _CONFIG_OF or param in _OUR_PARAMS:
        return param
    return next(iter(named({param: True})))


def _dump_config(model: str, params: JsonObject) -> JsonObject:
    given = params.get("generationConfig")
    config: JsonObject = dict(given) if is_object(given) else {}
    config |= {key: value for key, value in params.items() if key in _CONFIG_FIELDS}
    asked = {**params, "stop": read_stop(params)}
    config |= {
        field: asked[param] for param, field in _CONFIG_OF.items() if asked.get(param) not in (None, [])
    }
    if is_object(thinking := params.get("thinking")):
        config["thinkingConfig"] = _dump_thinking(model, thinking)
    if (wanted := read_response_format(params)) is not None:
        of_schema = {} if wanted.schema is None else {"responseJsonSchema": wanted.schema}
        config |= {"responseMimeType": _JSON, **of_schema}
    return config


def _dump_thinking(model: str, thinking: JsonObject) -> JsonObject:
    """Our `{budget_tokens}` or `{effort}`. Thoughts are included, if not told otherwise; models before the third
    generation know no levels, so an effort becomes a budget there."""
    if thinking.get("type") == "disabled":
        return {"thinkingBudget": 0}
    config = {key: value for key, value in thinking.items() if key not in _THINKING_WORDS}
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


_THINKING_WORDS = frozenset({"type", "budget_tokens", "effort", "include_thoughts"})


def _sign_foreign_parts(contents: list[JsonObject]) -> None:
    """Give the first call of each step a signature that is not checked, where the step has none, and each image of the
    model's: these models refuse calls and images that they did not sign, and another model signs none."""
    for content in contents:
        if content["role"] != "model":
            continue
        parts = content["parts"]
        calls = [part for part in parts if "functionCall" in part]
        if calls and not any("thoughtSignature" in part for part in parts):
            calls[0]["thoughtSignature"] = _SKIP_CHECK
        for part in parts:
            if "inlineData" in part or "fileData" in part:
                part.setdefault("thoughtSignature", _SKIP_CHECK)


def _parse_params(fields: JsonObject) -> JsonObject:
    params = {key: value for key, value in fields.items() if key not in _OUR_FIELDS and value not in ({}, [])}
    config = fields.get("generationConfig", {})
    if not is_object(config):
        raise InvalidRequest("generationConfig is not an object")
    config = named(config)
    params |= {_PARAM_OF.get(field, field): value for field, value in config.items()}
    schema = params.pop("responseJsonSchema", None)
    if params.get("responseMimeType") == _JSON and "responseSchema" not in params:
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
