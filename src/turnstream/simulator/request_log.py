"""Log of requests and answers, for assertions in a user's tests. It is bounded, and holds no secrets."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO, TypeAlias

import msgspec

from turnstream.errors import ConfigurationError

REQUESTS_KEPT = 200
BODY_LIMIT = 64 * 1024
"""Bytes of a request's body to keep."""
HEADER_LIMIT = 1000
"""Characters of a header's value to keep."""
MASK = "***"
_SECRET_WORDS = ("authorization", "key", "token", "secret", "cookie", "password", "credential", "signature")

Ending: TypeAlias = Literal["complete", "broken off", "client went away"]


class AnswerRecord(msgspec.Struct, omit_defaults=True):
    """The answer to a request. `ended` is None while it is being sent. `bytes` is the length of the body."""

    status: int | None = None
    wire: str | None = None
    stream: bool = False
    simulate: str | None = None
    error: str | None = None
    bytes: int = 0
    ended: Ending | None = None


class LoggedRequest(msgspec.Struct):
    """A request. `body` is its JSON, or its text if it is not JSON or longer than `BODY_LIMIT` bytes."""

    number: int
    time: str
    method: str
    path: str
    headers: dict[str, str]
    body: msgspec.Raw
    body_bytes: int
    body_truncated: bool
    answered: AnswerRecord


class RequestLog:
    """Keeps the newest requests in memory, oldest first, and writes answered ones to the file at `path`.

    Use it as a context manager. Raises ConfigurationError if the file cannot be written.
    """

    def __init__(self, path: Path | None = None, kept: int = REQUESTS_KEPT) -> None:
        self._requests: deque[LoggedRequest] = deque(maxlen=kept)
        self._count = 0
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = path.open("a", encoding="utf-8")
            except OSError as error:
                raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error

    def __enter__(self) -> RequestLog:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def begin(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> LoggedRequest:
        """Add a request and return it. Its `answered` is filled in later."""
        self._count += 1
        request = LoggedRequest(
            self._count,
            datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            method,
            path[:HEADER_LIMIT],
            masked(headers),
            _kept_body(body),
            len(body),
            len(body) > BODY_LIMIT,
            AnswerRecord(),
        )
        self._requests.append(request)
        return request

    def end(self, request: LoggedRequest) -> None:
        """Write an answered request to the file, if there is one."""
        if self._file is not None:
            self._file.write(msgspec.json.encode(request).decode() + "\n")
            self._file.flush()

    def newest(self, count: int = REQUESTS_KEPT) -> Sequence[LoggedRequest]:
        """Return the last `count` requests, newest last."""
        return list(self._requests)[-count:] if count else []

    def clear(self) -> None:
        """Clear the memory. Numbers continue, and the file stays."""
        self._requests.clear()


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with names in lower case, and with secrets masked."""
    return {
        name.lower(): MASK if any(word in name.lower() for word in _SECRET_WORDS) else header_text(value)
        for name, value in headers.items()
    }


def header_text(value: str) -> str:
    """Return a header's value in the form that the log keeps.

    Bytes that are not UTF-8 come as lone surrogates, which JSON cannot hold.
    """
    return value[:HEADER_LIMIT].encode("utf-8", "replace").decode()


def _kept_body(body: bytes) -> msgspec.Raw:
    if len(body) <= BODY_LIMIT:
        try:
            text = body.decode()
            value: Any = msgspec.json.decode(text)
            return msgspec.Raw(msgspec.json.encode(value))
        except (ValueError, RecursionError):
            pass
    return msgspec.Raw(msgspec.json.encode(body[:BODY_LIMIT].decode("utf-8", "replace")))
