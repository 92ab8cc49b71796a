"""What a request asks of the model beside its messages, in Converse's words and in ours.

What Converse has no field for goes to the model through `additionalModelRequestFields`, whose words are those of the
model's vendor: so some params depend on the model's name. Functions that parse take fields into `params`; what they do
not know stays there under the API's own name, and is sent again. They raise InvalidRequest.
"""

from __future__ import annotations

import json
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.bedrock_json import Raw, is_object, without
from turnstream.wires.lenient_json import decode_json

_INFERENCE = {
    "max_tokens": "maxTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "stop": "stopSequences",
}
OUR_PARAMS = frozenset(
    {
        *_INFERENCE, "additionalModelRequestFields", "inferenceConfig", "outputConfig", "parallel_tool_calls",
        "response_format", "thinking", "tool_choice", "top_k",
    }
)  # fmt: skip
"""Params that this module writes, under whatever name."""
FIELDS = frozenset({"inferenceConfig", "additionalModelRequestFields", "outputConfig"})
"""Fields of a request that it reads."""


def dump_inference(params: Raw) -> Raw:
    given = params.get("inferenceConfig")
    inference = dict(given) if is_object(given) else {}
    inference |= {
        theirs: params[ours] for ours, theirs in _INFERENCE.items() if params.get(ours) not in (None, [])
    }
    return inference


def dump_output(params: Raw) -> Raw:
    """`outputConfig`: the schema that the answer must have, and how much effort it may cost."""
    given = params.get("outputConfig")
    output = dict(given) if is_object(given) else {}
    match params.get("response_format"):
        case {"type": "json_schema", "schema": schema, **rest}:
            named: Raw = {key: rest[key] for key in ("name", "description") if rest.get(key)}
            structure = {"jsonSchema": {"schema": json.dumps(schema, ensure_ascii=False), **named}}
            output["textFormat"] = {"type": "json_schema", "structure": structure}
        case _:
            pass
    match params.get("thinking"):
        case {"effort": str(effort)}:
            output["effort"] = effort
        case _:
            pass
    return output


def dump_additional(model: str, params: Raw) -> Raw:
    """What goes to the model in its own words. Given fields win."""
    additional: Raw = {}
    claude = is_claude(model)
    thinking = params.get("thinking")
    match thinking:
        case {"type": _}:
            additional["thinking"] = thinking
        case {"budget_tokens": _} if claude:
            additional["thinking"] = {"type": "enabled", **thinking}
        case {"effort": _} if claude:
            additional["thinking"] = {"type": "adaptive"}
        case _:
            pass
    if (top_k := params.get("top_k")) is not None:
        additional |= {"inferenceConfig": {"topK": top_k}} if "amazon.nova" in model else {"top_k": top_k}
    if params.get("parallel_tool_calls") is False and claude:
        match params.get("tool_choice"):
            case "required" | "any":
                choice: Raw = {"type": "any"}
            case {"name": name}:
                choice = {"type": "tool", "name": name}
            case _:
                choice = {"type": "auto"}
        additional["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
    match params.get("response_format"):
        case {"type": "json_object"} if "openai." in model or "mistral." in model:
            additional["response_format"] = {"type": "json_object"}
        case _:
            pass
    given = params.get("additionalModelRequestFields")
    return additional | (given if is_object(given) else {})


def dump_tool_choice(choice: Any) -> Any:
    """`auto`, `required` and `{"name": …}` in this API's words; its own objects pass through."""
    match choice:
        case "required" | "any":
            return {"any": {}}
        case "auto":
            return {"auto": {}}
        case {"name": name} if len(choice) == 1:
            return {"tool": {"name": name}}
        case _:
            return choice if is_object(choice) else None


def parse_inference(inference: Any, params: Raw) -> None:
    given = dict(expect(inference or {}, dict, "inferenceConfig"))
    for ours, theirs in _INFERENCE.items():
        if (value := given.pop(theirs, None)) is not None:
            params[ours] = value
    if given:
        params["inferenceConfig"] = given


def parse_additional(additional: Any, params: Raw) -> None:
    given = dict(expect(additional or {}, dict, "additionalModelRequestFields"))
    if is_object(fields := given.get("thinking")):
        del given["thinking"]
        enabled = fields.get("type") == "enabled" and "budget_tokens" in fields
        params["thinking"] = without(fields, "type") if enabled else fields
    if "top_k" in given:
        params["top_k"] = given.pop("top_k")
    if given:
        params["additionalModelRequestFields"] = given


def parse_output(output: Any, params: Raw) -> None:
    given = dict(expect(output or {}, dict, "outputConfig"))
    match given.get("textFormat"):
        case {"type": "json_schema", "structure": {"jsonSchema": {"schema": str(schema), **rest}}}:
            params["response_format"] = {
                "type": "json_schema",
                "schema": decode_json(schema.encode()),
                **rest,
            }
            del given["textFormat"]
        case _:
            pass
    if isinstance(given.get("effort"), str) and params.get("thinking") in (None, {"type": "adaptive"}):
        params["thinking"] = {"effort": given.pop("effort")}
    if given:
        params["outputConfig"] = given


def parse_tool_choice(choice: Raw) -> Any:
    match choice:
        case {"auto": {}} if len(choice) == 1:
            return "auto"
        case {"any": {}} if len(choice) == 1:
            return "required"
        case {"tool": {"name": name, **rest}} if len(choice) == 1 and not rest:
            return {"name": name}
        case _:
            return choice


def is_claude(model: str) -> bool:
    return "anthropic" in model or "claude" in model


def may_cache(model: str) -> bool:
    """Whether a model takes cache points; others refuse the request. An ARN does not always tell the model."""
    return is_claude(model) or "amazon.nova" in model or model.startswith("arn:")


def expect(value: Any, kind: type[Any], name: str) -> Any:
    if not isinstance(value, kind):
        expected = {dict: "an object", list: "a list", str: "a string"}[kind]
        raise InvalidRequest(f"{name} must be {expected}")
    return value
