"""Encodes and decodes bodies of requests."""

from __future__ import annotations

from typing import Any

from turnstream.errors import InvalidRequest
from turnstream.wires.base import HttpRequest, ModelRequest
from turnstream.wires.shared.json_values import JsonObject
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


def read_body(body: bytes) -> JsonObject:
    """Return the object in a body. Raises InvalidRequest for anything else."""
    try:
        value: Any = replace_surrogates(decode_json(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    return expect(value, dict, "the body")


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


def expect_if_given(value: Any, kind: type[Any], name: str) -> Any:
    """Return what `expect` returns, or an empty value of the type if `value` is None."""
    return kind() if value is None else expect(value, kind, name)


def expect_objects(value: Any, name: str, item: str) -> list[JsonObject]:
    """Return `value` if it is a list of objects. Raises InvalidRequest with the name of the list or item."""
    return [expect(one, dict, item) for one in expect(value, list, name)]
