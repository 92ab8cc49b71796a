"""One engine for the errors of every provider, in both directions. What a vendor says otherwise is in its table, an
ErrorTable in `wires/<vendor>/errors.py`.

    decode_error()   status, headers and body of a refused call  →  the ProviderError
    stream_error()   a failure reported inside a stream          →  the StreamError
    encode_error()   a ProviderError                             →  status and body, as the vendor writes them
    dump_error()     a StreamError                               →  the JSON of the event that ends the stream
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from turnstream.core.stream_events import ErrorKind, StreamError
from turnstream.errors import (
    AuthenticationFailed,
    ContentFiltered,
    ContextLengthExceeded,
    InvalidModelRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.shared.context_overflow import means_overflow
from turnstream.wires.shared.failure_words import (
    MESSAGES,
    QUOTA_CODE,
    FailureMeaning,
    meaning_of_refusal,
    meaning_of_words,
)
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json
from turnstream.wires.shared.reported_errors import ErrorReader, ReportedError

STATUSES: Mapping[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    402: RateLimited,
    403: PermissionDenied,
    404: ModelNotFound,
    408: ProviderTimeout,
    429: RateLimited,
    503: Overloaded,
    504: ProviderTimeout,
    524: ProviderTimeout,
    529: Overloaded,
}
"""Statuses that say what is wrong. The others say no more than whose fault it is."""
_KINDS: dict[type[ProviderError], ErrorKind] = {
    RateLimited: "throttling",
    Overloaded: "service_unavailable",
    ProviderTimeout: "service_unavailable",
    ProviderFailed: "internal_server",
}
CLASSES: dict[str, type[ProviderError]] = {
    kind.code: kind
    for kind in (
        AuthenticationFailed, PermissionDenied, ModelNotFound, InvalidModelRequest, ContextLengthExceeded,
        ContentFiltered, RateLimited, Overloaded, ProviderTimeout, ProviderFailed,
    )
}  # fmt: skip
"""Our classes of a provider's errors, by their codes."""


class WrittenError(NamedTuple):
    """The status, type and code with which a vendor reports an error."""

    status: int
    type: str = ""
    code: str | None = None


def _nothing() -> dict[str, type[ProviderError]]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable(ErrorReader):
    """How one vendor reports failures.

    Read: an exact name wins, then a part of one, then the status, then the words. A name that means no more than an
    invalid request leaves the decision to what follows.

    Args:
        written: Status, type and code by our code. An error whose class is not in it is written as its base class.
        body: Builds the JSON from these, the words, and the seconds to wait.
        names: Classes of the vendor's codes and types, in small letters.
        parts: Classes of codes and types by a part of them, in small letters; the first that fits decides.
        words: Classes of the vendor's words, in small letters, where nothing else is known.
        statuses: Classes of the statuses of refused calls. Inside a stream, where a proxy names them, all mean the same.
        means_statuses: A status of 500 or more decides; of the words only an overflow counts then.
        spent: Parts of codes and types that mean a quota is used up.
        of_the_model: Names of failures of the model, not of the API.
        unknown: Kind of a failure whose names are all unknown.
        names_are_codes: The vendor's names are our codes too, the unknown ones included.
        passes_codes: A code of no class of ours is written into a stream as it is.
        name_header: Header that holds the error's name.
        too_long: Words for a conversation that is too long, for a vendor without a code for it.
    """

    written: Mapping[str, WrittenError]
    body: Callable[[WrittenError, str, float | None], JsonObject]
    names: Mapping[str, type[ProviderError]] = field(default_factory=_nothing)
    parts: tuple[tuple[str, type[ProviderError]], ...] = ()
    words: tuple[tuple[str, type[ProviderError]], ...] = ()
    statuses: Mapping[int, type[ProviderError]] = field(default_factory=lambda: STATUSES)
    means_statuses: bool = False
    spent: tuple[str, ...] = ()
    of_the_model: frozenset[str] = frozenset()
    unknown: ErrorKind = "internal_server"
    names_are_codes: bool = False
    passes_codes: bool = False
    name_header: str = ""
    too_long: str = ""

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Return the typed error of an answer that is not 2xx."""
        reported = self.read_body(body)._replace(status=status)
        named = next((value for name, value in headers.items() if name.lower() == self.name_header), None)
        if named:
            reported = reported._replace(names=(named, *reported.names))
        kind, code = self._classify(reported, self.statuses)
        return kind(
            MESSAGES[code],
            code=code,
            retryable=False if code == QUOTA_CODE else None,
            provider_status=status,
            detail=reported.words or None,
            retry_after=retry_after(headers) if reported.wait is None else reported.wait,
        )

    def stream_error(self, reported: ReportedError) -> StreamError:
        """Return the StreamEvent of a failure reported inside a stream."""
        found, code = self._classify(reported, STATUSES)
        kind: ErrorKind = _KINDS.get(found, "validation")
        name = next((name for name in reversed(reported.names) if name.isidentifier()), None)
        if not self.of_the_model.isdisjoint(reported.names):
            kind = "model_stream"
        elif name is None:
            pass
        elif (known := self._class_of(name)) is None and found is ProviderFailed and reported.status is None:
            kind, code = self.unknown, name if self.names_are_codes else code
        elif known is found and self.names_are_codes:
            code = name
        return StreamError(kind, code, reported.words, reported.status)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        """Return the status and the JSON body with which the vendor reports an error."""
        written = self.written_as(error.code, type(error))
        body = self.body(written, self.spoken(error.code, error.message), error.retry_after)
        return written.status, encode_json(body)

    def dump_error(self, error: StreamError) -> JsonObject:
        """Return the JSON of the event with which the vendor ends a stream that failed."""
        written = self.written_as(error.code)
        return self.body(written, self.spoken(error.code, error.message), None)

    def written_as(self, code: str, kind: type[ProviderError] | None = None) -> WrittenError:
        """Return the status and names of an error with this code and class. What no base class of it has is a failure."""
        if code in self.written:
            return self.written[code]
        kind = kind or CLASSES.get(code)
        bases = () if kind is None else (base for base in kind.__mro__ if issubclass(base, ProviderError))
        known = (self.written[base.code] for base in bases if base.code in self.written)
        if kind is None and self.passes_codes:
            return WrittenError(500, code, code)
        return next(known, self.written[ProviderFailed.code])

    def spoken(self, code: str, message: str) -> str:
        """Return the message, in words that tell what no code of the vendor does."""
        if code == ContextLengthExceeded.code and self.too_long and not means_overflow(message):
            return f"{self.too_long} {message}"
        return message

    def _classify(
        self, reported: ReportedError, statuses: Mapping[int, type[ProviderError]]
    ) -> tuple[type[ProviderError], str]:
        """Return our class and code for a failure."""
        meaning = self._meaning_of(reported, statuses)
        if meaning.error is RateLimited and (
            reported.status == 402
            or any(part in name.lower() for part in self.spent for name in reported.names)
        ):
            return RateLimited, QUOTA_CODE
        return meaning.error, meaning.code or meaning.error.code

    def _meaning_of(
        self, reported: ReportedError, statuses: Mapping[int, type[ProviderError]]
    ) -> FailureMeaning:
        words, status = reported.words, reported.status
        classes = [found for name in reported.names if (found := self._class_of(name)) is not None]
        found = next((found for found in classes if found is not InvalidModelRequest), None)
        found = found or statuses.get(status or 0) or (InvalidModelRequest if classes else None)
        if found in (None, InvalidModelRequest, ProviderFailed) and means_overflow(
            " ".join((*reported.names, words))
        ):
            return FailureMeaning(ContextLengthExceeded)
        if found is None and status is not None and 400 <= status < 500:
            found = InvalidModelRequest
        elif found is None and status is not None and self.means_statuses:
            found = ProviderFailed
        if found is InvalidModelRequest or found is PermissionDenied:
            return meaning_of_refusal(status, words) or FailureMeaning(found)
        if found is not None:
            return FailureMeaning(found)
        lowered = words.lower()
        own = (FailureMeaning(found) for part, found in self.words if part in lowered)
        return meaning_of_words(words) or next(own, FailureMeaning(ProviderFailed))

    def _class_of(self, name: str) -> type[ProviderError] | None:
        key = name.partition(":")[0].rpartition("#")[2].lower().replace("-", "_").replace(" ", "_")
        return self.names.get(key) or next((found for part, found in self.parts if part in key), None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that a provider asks for (RFC 9110 10.2.3), or None.

    A date counts from the response's own Date, so that no clock is read here.
    """
    found = {name.lower(): value for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(found.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    until, since = _date(found.get("retry-after")), _date(found.get("date"))
    return max(0.0, (until - since).total_seconds()) if until and since else None


def _date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value) if value else None
    except ValueError:
        return None
    return date if date is None or date.tzinfo is not None else None
