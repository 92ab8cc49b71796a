"""Decodes requests to Gemini's generateContent into ModelRequests. The inverse of `requests`."""

from __future__ import annotations

import re
from urllib.parse import unquote

from turnstream.errors import InvalidRequest
from turnstream.wires.base import ModelRequest
from turnstream.wires.gemini.chunks import named
from turnstream.wires.gemini.messages import parse_contents, text_of_parts
from turnstream.wires.gemini.params import parse_params
from turnstream.wires.gemini.tools import parse_tools
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.request_bodies import expect_objects, read_body

_VERSION = re.compile(r"\A/*(?:v\d\w*/)?")


def decode_request(path: str, body: bytes) -> ModelRequest:
    """Return the request in `body` to the model in `path`. Raises InvalidRequest if the body is invalid.

    Tools that are not plain functions stay in `params["tools"]`, and the rest of the toolConfig in
    `params["toolConfig"]`. Fields without an equivalent stay in `params` under Gemini's names.
    """
    fields = named(read_body(body))
    contents = fields.get("contents")
    if isinstance(contents, str):
        contents = [{"parts": [{"text": contents}]}]
    model, stream = _parse_path(path, fields)
    tools, others = parse_tools(fields.get("tools"))
    params = parse_params(fields)
    if others:
        params["tools"] = others
    system = text_of_parts(fields.get("systemInstruction")) or None
    return ModelRequest(
        model,
        parse_contents(expect_objects(contents, "contents", "a content")),
        system,
        tools,
        params,
        stream,
    )


def _parse_path(path: str, fields: JsonObject) -> tuple[str, bool]:
    """Return the model, and True if the answer is to be streamed."""
    resource, _, call = path.partition("?")[0].rpartition(":")
    if call in ("streamGenerateContent", "generateContent"):
        resource = unquote(_VERSION.sub("", resource))
        return resource.rpartition("models/")[2] or resource, call == "streamGenerateContent"
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("the path does not name a model: /v1beta/models/MODEL:streamGenerateContent")
    return model.removeprefix("models/"), True
