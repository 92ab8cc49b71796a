"""Conversions between turnstream's params and Converse's fields.

Params without a Converse field go to the model through `additionalModelRequestFields`, in the form of the
model's vendor. So some params depend on the model's name. The parse functions write fields into `params`.
Unknown fields stay there under the API's own name and are sent again. They raise InvalidRequest.
"""

from __future__ import annotations

import json
from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.shared.claude_thinking import dump_thinking as dump_claude_thinking
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.lenient_json import decode_json
from turnstream.wires.shared.normal_params import effort_of, read_response_format, read_stop
from turnstream.wires.shared.request_bodies import expect

_INFERENCE = {
    "max_tokens": "maxTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "stop": "stopSequences",
}
MAPPED_PARAMS = (
    *_INFERENCE, "additionalModelRequestFields", "inferenceConfig", "outputConfig", "parallel_tool_calls",
    "response_format", "thinking", "tool_choice", "top_k", "cache", "extra_body", "system", "tools",
)  # fmt: skip
"""Params that have a form of their own in this API."""
FIELDS = ("inferenceConfig", "additionalModelRequestFields", "outputConfig")
"""Fields of a request that the parse functions read."""


def dump_inference(params: JsonObject) -> JsonObject:
    given = params.get("inferenceConfig")
    inference = dict(given) if is_object(given) else {}
    normalized = {**params, "stop": read_stop(params)}
    return inference | {
        theirs: normalized[ours]
        for ours, theirs in _INFERENCE.items()
        if normalized.get(ours) not in (None, [])
    }


def dump_thinking(model: str, thinking: Any) -> tuple[JsonObject | None, str | None]:
    """Return the field `thinking` for the model, and the effort.

    Claude gets both in its own form. Other models get only an effort.
    """
    if is_claude(model):
        return dump_claude_thinking(model, thinking)
    if is_object(thinking) and "type" in thinking:
        return (None if thinking == {"type": "disabled"} else thinking), None
    return None, effort_of(thinking)


def dump_output(model: str, params: JsonObject, effort: str | None) -> JsonObject:
    """Return `outputConfig`: the schema of the answer, and the effort.

    Raises InvalidRequest if the model does not support the requested format.

    Args:
        model: Bedrock's id of the model.
        params: Params of the request.
        effort: Name of the effort, or None.
    """
    given = params.get("outputConfig")
    output = dict(given) if is_object(given) else {}
    wanted = read_response_format(params)
    if wanted is not None and wanted.schema is not None:
        definition: JsonObject = {"schema": json.dumps(wanted.schema, ensure_ascii=False)}
        details = (("name", wanted.name), ("description", wanted.description))
        definition |= {key: value for key, value in details if value}
        output["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": definition}}
    elif wanted is not None and not _takes_json_object(model):
        raise InvalidRequest(
            "this model needs a schema: give response_format {type: json_schema, schema: {…}}"
        )
    return output if effort is None else {**output, "effort": effort}


def _takes_json_object(model: str) -> bool:
    return "openai." in model or "mistral." in model


def dump_additional(model: str, params: JsonObject, thinking: JsonObject | None) -> JsonObject:
    """Return the fields that go to the model in its own form.

    Args:
        model: Bedrock's id of the model.
        params: Params of the request. Its own `additionalModelRequestFields` override all others.
        thinking: Field `thinking` of the model, or None.
    """
    additional: JsonObject = {} if thinking is None else {"thinking": thinking}
    if (top_k := params.get("top_k")) is not None:
        additional |= {"inferenceConfig": {"topK": top_k}} if "amazon.nova" in model else {"top_k": top_k}
    if params.get("parallel_tool_calls") is False and is_claude(model):
        match params.get("tool_choice"):
            case "required" | "any":
                choice: JsonObject = {"type": "any"}
            case {"name": name}:
                choice = {"type": "tool", "name": name}
            case _:
                choice = {"type": "auto"}
        additional["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
    match params.get("response_format"):
        case {"type": "json_object"} if _takes_json_object(model):
            additional["response_format"] = {"type": "json_object"}
        case _:
            pass
    given = params.get("additionalModelRequestFields")
    return additional | (given if is_object(given) else {})


def dump_tool_choice(choice: Any) -> Any:
    """Return `auto`, `required` and `{"name": …}` in this API's form. The API's own objects pass through."""
    match choice:
        case "required" | "any":
            return {"any": {}}
        case "auto":
            return {"auto": {}}
        case {"name": name} if len(choice) == 1:
            return {"tool": {"name": name}}
        case _:
            return choice if is_object(choice) else None


def parse_inference(inference: Any, params: JsonObject) -> None:
    given = dict(expect(inference or {}, dict, "inferenceConfig"))
    for ours, theirs in _INFERENCE.items():
        if (value := given.pop(theirs, None)) is not None:
            params[ours] = value
    if given:
        params["inferenceConfig"] = given


def parse_additional(additional: Any, params: JsonObject) -> None:
    given = dict(expect(additional or {}, dict, "additionalModelRequestFields"))
    if is_object(fields := given.get("thinking")):
        del given["thinking"]
        enabled = fields.get("type") == "enabled" and "budget_tokens" in fields
        params["thinking"] = without(fields, "type") if enabled else fields
    if "top_k" in given:
        params["top_k"] = given.pop("top_k")
    if given:
        params["additionalModelRequestFields"] = given


def parse_output(output: Any, params: JsonObject) -> None:
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


def parse_tool_choice(choice: JsonObject) -> Any:
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
    """Return True if a model may accept cache points. Other models refuse the request.

    An ARN does not always show the model, so it counts as accepting.
    """
    return is_claude(model) or "amazon.nova" in model or model.startswith("arn:")
