"""Encodes requests to Gemini's generateContent. `request_decoder` is the inverse.

The path contains the model and whether to stream: `/v1beta/models/MODEL:streamGenerateContent?alt=sse`. A
model with its collection (`tunedModels/…`, `publishers/google/models/…`, `projects/…`) stays unchanged there.
"""

from __future__ import annotations

import re

from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.gemini.chunks import named
from turnstream.wires.gemini.messages import dump_contents
from turnstream.wires.gemini.params import CONFIG_FIELDS, CONFIG_OF, MAPPED_PARAMS, dump_config
from turnstream.wires.gemini.tools import dump_tool_config, dump_tools
from turnstream.wires.shared.json_values import JsonObject, without
from turnstream.wires.shared.model_paths import model_path
from turnstream.wires.shared.normal_params import given_params, read_tools
from turnstream.wires.shared.request_bodies import post

_COLLECTIONS = ("models/", "tunedModels/", "publishers/", "projects/", "endpoints/")
_CHECKS_SIGNATURES = re.compile(r"gemini-(?:[3-9]|\d\d)")
_SKIP_CHECK = "skip_thought_signature_validator"
"""Word that Google accepts instead of the signature of a call that another model made."""


def encode_request(request: ModelRequest) -> HttpRequest:
    """Return the POST for `request`.

    Params that Gemini has in its generationConfig go there, under Gemini's names or turnstream's. Other
    params go into the body unchanged. Params that are None are omitted. Gemini cannot express
    `parallel_tool_calls`, and caches repeated prefixes without being asked.

    Raises InvalidRequest if the API does not support the request.
    """
    params = {_name_of(key): value for key, value in given_params(request).items()}
    body: JsonObject = {"contents": dump_contents(request.messages)}
    body |= without(params, *MAPPED_PARAMS, *CONFIG_OF, *CONFIG_FIELDS)
    if _CHECKS_SIGNATURES.search(request.model):
        _sign_foreign_parts(body["contents"])
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": request.system}]}
    if config := dump_config(request.model, params):
        body["generationConfig"] = config
    if tools := dump_tools(request.tools, read_tools(params)):
        body["tools"] = tools
    if tool_config := dump_tool_config(params, tools):
        body["toolConfig"] = tool_config
    return post(request, _path_of(request.model, stream=request.stream), body)


def _path_of(model: str, *, stream: bool) -> str:
    resource = model if model.startswith(_COLLECTIONS) else f"models/{model}"
    call = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/{model_path(resource, safe='/:@,=+~-._')}:{call}"


def _name_of(param: str) -> str:
    """Return Gemini's name of a param that is given in snake case. Any other name is returned unchanged."""
    if param in CONFIG_OF or param in MAPPED_PARAMS:
        return param
    return next(iter(named({param: True})))


def _sign_foreign_parts(contents: list[JsonObject]) -> None:
    """Add signatures that Google does not check, in place.

    These models refuse calls and images of the model without a signature, and other models do not sign them.
    Each image gets one, and the first call of each step unless the step has one.
    """
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
