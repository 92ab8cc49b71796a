"""Failures that a provider, or a proxy before it, reports in a shape that is not the wire's own."""

from __future__ import annotations

from typing import Any

from turnstream.wires.shared.failure_words import sounds_like_failure
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object, is_one_of

_WORDS = ("message", "Message", "error_message", "error_msg", "msg", "detail", "title")
_NUMBERS = ("status_code", "StatusCode", "status", "http_code", "code", "error_code")
_FAILED = frozenset({"error", "failed", "failure", "fail"})
_NOT_ONLY_WORDS = frozenset({"id", "type", "event", "object", "model", "content", "candidates", "usage"})
"""Fields of an event that may hold words and be no error."""


def failure_in(event: JsonObject) -> JsonObject | None:
    """Return the failure that an event reports as `{"error": …}`, or None if it reports none.

    Read are `error` and `errors` of any kind, and the fields of an error without anything around them.
    """
    inner = event.get("error") or event.get("errors")
    if is_list(inner) and inner and is_object(inner[0]):
        inner = inner[0]
    if inner is True:
        inner = {key: item for key, item in event.items() if key != "error"}
    if inner:
        return {"error": inner}
    if event.get("object") == "error":
        return {"error": event}
    if is_object(base := event.get("base_resp")) and base.get("status_code"):
        return {"error": {"message": base.get("status_msg"), "code": base["status_code"]}}
    words = _words_in(event)
    if words is None:
        return None
    marked = (
        http_status(event) is not None
        or event.get("success") is False
        or is_one_of(event.get("status"), _FAILED)
        or (isinstance(words, str) and sounds_like_failure(words))
    )
    if marked and _NOT_ONLY_WORDS.isdisjoint(event):
        return {"error": {**event, "message": words}}
    return None


def unexplained_words(event: JsonObject) -> str | None:
    """Return the words of an event that holds nothing else that is known, or None."""
    words = _words_in(event) if _NOT_ONLY_WORDS.isdisjoint(event) else None
    return words if isinstance(words, str) else None


def _words_in(event: JsonObject) -> Any:
    return next((event[name] for name in _WORDS if event.get(name)), None)


def http_status(error: JsonObject) -> int | None:
    """Return the HTTP status that an error names, whatever the field is called."""
    for value in (error.get(name) for name in _NUMBERS):
        number = value
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
            number = int(value)
        if type(number) is int and 400 <= number <= 599:
            return number
    return None


def words_of(error: Any) -> str | None:
    """Return the words of an error that is text, or has them under any of the usual names."""
    if is_object(error):
        error = next((error[name] for name in _WORDS if isinstance(error.get(name), str)), None)
    return error if isinstance(error, str) else None
