"""Reads normalized params (see `wires.base.ModelRequest`) and the content of documents, for several wires."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from turnstream.core.blocks import Content
from turnstream.errors import InvalidRequest
from turnstream.wires.base import ModelRequest
from turnstream.wires.shared.json_values import JsonObject

_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/yaml", "application/javascript"})


class ResponseFormat(NamedTuple):
    """JSON format of the answer. A `schema` of None means any object."""

    schema: JsonObject | None
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


def given_params(request: ModelRequest) -> JsonObject:
    """Return the params of a request that are not None."""
    return {key: value for key, value in request.params.items() if value is not None}


def read_response_format(params: Mapping[str, Any]) -> ResponseFormat | None:
    """Return the param `response_format`, or None if it is missing or requests plain text.

    OpenAI's own shape is accepted too. Raises InvalidRequest for other values.
    """
    value = params.get("response_format")
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return ResponseFormat(None)
        case {"type": "json_schema", "json_schema": {"schema": dict()} as inner}:
            return _schema_format(cast(JsonObject, inner))
        case {"type": "json_schema", "schema": dict()}:
            return _schema_format(cast(JsonObject, value))
        case _:
            raise InvalidRequest(
                "response_format must be {type: json_schema, schema: {…}, name?, strict?}"
                " or {type: json_object}"
            )


def _schema_format(value: JsonObject) -> ResponseFormat:
    name, strict, description = value.get("name"), value.get("strict"), value.get("description")
    return ResponseFormat(
        value["schema"],
        name if isinstance(name, str) else None,
        strict if isinstance(strict, bool) else None,
        description if isinstance(description, str) else None,
    )


def read_extra_body(params: Mapping[str, Any]) -> JsonObject:
    """Return the param `extra_body`, whose fields override all others. Raises InvalidRequest if it is not an
    object."""
    value: Any = params.get("extra_body")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest("extra_body must be an object")
    return cast(JsonObject, value)


def read_stop(params: Mapping[str, Any]) -> list[Any]:
    """Return the param `stop` as a list. A single string is accepted too. Raises InvalidRequest for other
    values."""
    value: Any = params.get("stop")
    return [value] if isinstance(value, str) else _read_list(params, "stop")


def read_tools(params: Mapping[str, Any]) -> list[Any]:
    """Return the param `tools`: provider-specific tools, added to the request's own. Raises
    InvalidRequest."""
    return _read_list(params, "tools")


def _read_list(params: Mapping[str, Any], name: str) -> list[Any]:
    value: Any = params.get(name)
    if value is not None and not isinstance(value, list | tuple):
        raise InvalidRequest(f"{name} must be a list")
    return list(cast("list[Any]", value or ()))


def budget_of(thinking: Any) -> int | None:
    """Return the budget of `{budget_tokens}`, or None. A provider's own object has a `type`, and gives
    None."""
    return _own(thinking, "budget_tokens", int)


def effort_of(thinking: Any) -> str | None:
    """Return the effort of `{effort}`, or None."""
    return _own(thinking, "effort", str)


def effort_for(budget: int) -> str:
    """Return the effort closest to a budget of tokens."""
    return next((effort for effort in ("low", "medium") if budget <= _BUDGETS[effort]), "high")


def budget_for(effort: str) -> int:
    """Return the budget of tokens for an effort. Raises InvalidRequest for an unknown effort."""
    if effort not in _BUDGETS:
        raise InvalidRequest(f"thinking.effort is one of {', '.join(_BUDGETS)}")
    return _BUDGETS[effort]


def document_text(content: Content) -> str | None:
    """Return a text document with its title above, or None if it is not text. Raises InvalidRequest for
    broken base64."""
    text: Any = content.get("text")
    media_type = str(content.get("media_type") or "")
    if not text and content.get("data") and (media_type.startswith("text/") or media_type in _TEXT_TYPES):
        try:
            text = base64.b64decode(content["data"], validate=True).decode("utf-8", "replace")
        except (binascii.Error, ValueError, TypeError) as error:
            raise InvalidRequest("a document's data is not base64") from error
    if not isinstance(text, str) or not text:
        return None
    title: Any = content.get("title")
    return f"{title}\n\n{text}" if title else text


def without_title(content: Content) -> Content:
    return {key: value for key, value in content.items() if key != "title"}


def _own(thinking: Any, key: str, kind: type[Any]) -> Any:
    value: Any = cast(JsonObject, thinking).get(key) if isinstance(thinking, dict) else None
    is_ours = isinstance(value, kind) and not isinstance(value, bool) and "type" not in thinking
    return value if is_ours else None
