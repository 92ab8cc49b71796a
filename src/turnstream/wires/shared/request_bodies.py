"""Encodes and decodes bodies of requests."""

from __future__ import annotations

from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_repaired, replace_surrogates
from turnstream.wires.shared.normal_params import read_extra_body

JSON = "application/json"


def post(
    request: ModelRequest, path: str, body: JsonObject, *, stream_type: str = "text/event-stream"
) -> HttpRequest:
    """Return the POST request. The caller's `extra_body` overrides fields of the body. Raises InvalidRequest.

    Args:
        request: The model call. Its `stream` selects the accepted media type.
        path: Path below the base URL.
        body: Fields of the body. The dict is modified.
        stream_type: Media type of a streamed answer.
    """
    body |= read_extra_body(request.params)
    headers = {"content-type": JSON, "accept": stream_type if request.stream else JSON}
    return HttpRequest(path, headers, encode_repaired(body))


def read_body(body: bytes, *, complaint: str = "the body is not an object") -> JsonObject:
    """Return the object in a body. Raises InvalidRequest, with the message `complaint` for JSON of another
    type."""
    try:
        value: Any = replace_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not is_object(value):
        raise InvalidRequest(complaint)
    return value


def read_model(fields: JsonObject) -> str:
    """Return the model's name in a body. Raises InvalidRequest if it is missing."""
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model is missing")
    return model


def expect(value: Any, kind: type[Any], name: str) -> Any:
    """Return `value` if it has the expected type.

    Args:
        value: A value of a body.
        kind: `dict`, `list` or `str`.
        name: Name of the value in the error message.

    Raises InvalidRequest if the value has another type.
    """
    if not isinstance(value, kind):
        expected = {dict: "an object", list: "a list", str: "a string"}[kind]
        raise InvalidRequest(f"{name} must be {expected}")
    return value
