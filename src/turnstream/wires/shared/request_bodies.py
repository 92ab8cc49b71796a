"""Bodies of requests: written by the calling half of a wire, and read by its serving half."""

from __future__ import annotations

from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_mended, mend_surrogates
from turnstream.wires.shared.normal_params import read_extra_body

JSON = "application/json"


def post(
    request: ModelRequest, path: str, body: JsonObject, *, stream_type: str = "text/event-stream"
) -> HttpRequest:
    """Return the POST of a body, whose fields the caller's `extra_body` overrides. Raises InvalidRequest.

    Args:
        request: What is asked; it says whether the answer is streamed.
        path: The path below the base URL.
        body: The fields so far; they change.
        stream_type: Media type of a streamed answer.
    """
    body |= read_extra_body(request.params)
    headers = {"content-type": JSON, "accept": stream_type if request.stream else JSON}
    return HttpRequest(path, headers, encode_mended(body))


def read_body(body: bytes, *, complaint: str = "the body is not an object") -> JsonObject:
    """Return the object that a body holds. Raises InvalidRequest, with `complaint` for JSON of another type."""
    try:
        value: Any = mend_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not is_object(value):
        raise InvalidRequest(complaint)
    return value


def read_model(fields: JsonObject) -> str:
    """Return the name of the model that a body asks. Raises InvalidRequest."""
    model = fields.get("model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("model is missing")
    return model


def expect(value: Any, kind: type[Any], name: str) -> Any:
    """Return a value of a body. Raises InvalidRequest, which calls it `name`, unless it is an object, a list or a string."""
    if not isinstance(value, kind):
        expected = {dict: "an object", list: "a list", str: "a string"}[kind]
        raise InvalidRequest(f"{name} must be {expected}")
    return value
