"""Finds the failure that a provider, or a proxy before it, reports in JSON of any shape.

    ErrorReader.read()          a value that may report a failure  →  the ReportedError, or None
    ErrorReader.read_failure()  a value that reports a failure     →  the ReportedError

The provider's words are untrusted: they go into `detail` or into a StreamError, never into `message`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from turnstream.wires.shared.failure_words import is_probably_failure
from turnstream.wires.shared.json_values import JsonObject, as_text, is_list, is_object, is_one_of
from turnstream.wires.shared.lenient_json import decode_json, encode_json, replace_surrogates

LONGEST_WORDS = 4000
_LONGEST_TEXT = 2000
"""Characters that are kept of a body of unknown shape."""
_WORDS = ("originalMessage", "message", "Message", "error_message", "error_msg", "msg", "detail", "title")
_NUMBERS = ("originalStatusCode", "status_code", "StatusCode", "status", "http_code", "code", "error_code")
_FAILED = frozenset({"error", "failed", "failure", "fail"})
_NOT_ONLY_WORDS = frozenset(
    {"id", "type", "event", "object", "created", "model", "content", "candidates", "choices", "usage"}
)
"""Fields of events that may hold words without being an error."""


class ReportedError(NamedTuple):
    """A failure in the provider's own words.

    Args:
        words: The message.
        names: Codes and types, unchanged.
        status: HTTP status, or None.
        wait: Seconds to wait, or None.
    """

    words: str
    names: tuple[str, ...] = ()
    status: int | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReader:
    """Finds the failure in a value.

    Args:
        name_fields: Fields that hold an error's code or type. Around an error object only the first field
            counts. `reason` is read from `details`, as in Google's APIs.
        coded: True if words with a code or a status are a failure in any event.
    """

    name_fields: tuple[str, ...] = ("code", "error_code", "type", "error_type")
    coded: bool = False

    def read(self, value: Any) -> ReportedError | None:
        """Return the failure that a value reports, or None.

        The failure is in the field `error` or `errors`, of any type, or directly in the fields of `value`.
        """
        if is_list(value) and len(value) == 1:
            value = value[0]
        if not is_object(value):
            return None
        inner = value.get("error") or value.get("errors")
        if is_list(inner) and inner and is_object(inner[0]):
            inner = inner[0]
        if is_object(inner) and inner:
            return self._read_inner(inner, value)
        if inner or value.get("object") == "error" or value.get("type") == "error":
            outer = self._fields_of(value)
            words = inner if isinstance(inner, str) else outer.words or _compact(value)
            return outer._replace(words=words[:LONGEST_WORDS])
        if is_object(base := value.get("base_resp")) and base.get("status_code"):
            return ReportedError(as_text(base.get("status_msg")) or "", (as_text(base["status_code"]) or "",))
        return self._fields_of(value) if self._is_marked(value) else None

    def read_failure(self, value: Any, text: str | None = None) -> ReportedError:
        """Return the failure that a value reports. If its shape is unknown, `text` or the value's own text is
        the message."""
        if is_list(value) and value and is_object(value[0]):
            value = value[0]
        fields = self._fields_of(value) if is_object(value) else ReportedError("")
        if (found := self.read(value)) is not None or fields.words:
            return found or fields
        message = value if isinstance(value, str) else text or _compact(value)
        return fields._replace(words=message.strip()[:_LONGEST_TEXT])

    def read_body(self, body: bytes) -> ReportedError:
        """Return the failure that a body reports: JSON, plain text or HTML."""
        text = body[: 4 * _LONGEST_TEXT].decode("utf-8", "replace")
        try:
            value: Any = replace_surrogates(decode_json(body))
        except (ValueError, RecursionError):
            value = text
        return self.read_failure(value, text)

    def _read_inner(self, inner: JsonObject, value: JsonObject) -> ReportedError:
        found = self._fields_of(inner)
        words = found.words or ("" if inner.get("message") == "" else _compact(inner)[:LONGEST_WORDS])
        return found._replace(
            words=_with_upstream(words, inner.get("metadata")),
            names=found.names or tuple(_names_in(value, self.name_fields[:1])),
            status=found.status or http_status(value),
        )

    def _is_marked(self, value: JsonObject) -> bool:
        """Return True if an event reports a failure by a code, a status or its words, without an
        error field."""
        alone = _NOT_ONLY_WORDS.isdisjoint(value)
        if not (alone or self.coded) or value.get("choices") or (words := _words_in(value)) is None:
            return False
        if self.coded and (
            http_status(value) or any(_names_in(value, self.name_fields[:2])) or "detail" in value
        ):
            return True
        return alone and (
            http_status(value) is not None
            or value.get("success") is False
            or is_one_of(value.get("status"), _FAILED)
            or (isinstance(words, str) and is_probably_failure(words))
        )

    def _fields_of(self, value: JsonObject) -> ReportedError:
        texts = (value[name] for name in _WORDS if isinstance(value.get(name), str) and value[name])
        words = next(texts, None) or _words_in(value) or ""
        words = words if isinstance(words, str) else _compact(words)
        names = tuple(_names_in(value, self.name_fields))
        details = value.get("details")
        wait: float | None = None
        if "reason" in self.name_fields and is_list(details):
            for detail in filter(is_object, details):
                names = (*names, *_names_in(detail, ("reason",)))
                wait = _seconds(detail.get("retryDelay")) if wait is None else wait
        return ReportedError(words[:LONGEST_WORDS], names, http_status(value), wait)


def unexplained_words(event: JsonObject) -> str | None:
    """Return the words of an event that has no known field, or None."""
    words = _words_in(event) if _NOT_ONLY_WORDS.isdisjoint(event) else None
    return words if isinstance(words, str) else None


def http_status(error: JsonObject) -> int | None:
    """Return the HTTP status in an error, in any of its usual fields, or None."""
    return next((status for name in _NUMBERS if (status := _status(error.get(name)))), None)


def _status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None


def _names_in(value: JsonObject, fields: tuple[str, ...]) -> Iterator[str]:
    for field in fields:
        name = value.get(field)
        text = None if _status(name) else as_text(name)
        if text and text != "error":
            yield text


def _words_in(event: JsonObject) -> Any:
    return next((event[name] for name in _WORDS if event.get(name)), None)


def _with_upstream(words: str, metadata: Any) -> str:
    """Return a gateway's words followed by those of the provider, which OpenRouter keeps in
    `metadata.raw`."""
    raw = metadata.get("raw") if is_object(metadata) else None
    if not raw:
        return words
    return f"{words}: {raw if isinstance(raw, str) else _compact(raw)}"[:LONGEST_WORDS]


def _compact(value: Any) -> str:
    return encode_json(value).decode("utf-8", "replace")


def _seconds(value: Any) -> float | None:
    """Return the seconds of a `google.protobuf.Duration`, such as `"37s"` or `"0.5s"`, or None."""
    try:
        seconds = float(value[:-1]) if isinstance(value, str) and value.endswith("s") else -1.0
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
