"""Decodes and encodes the errors of every provider. The differences of a vendor are in its table, an
ErrorTable in `wires/<vendor>/errors.py`.

    decode_error()   status, headers and body of a refused call  →  the ProviderError
    stream_error()   a failure reported inside a stream          →  the StreamError
    encode_error()   a ProviderError                             →  status and body in the vendor's format
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
"""Classes by statuses that are specific. Other statuses only tell a client error from a server error."""
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
"""Classes of provider errors by their codes."""


class WrittenError(NamedTuple):
    """The status, type and code with which a vendor reports an error."""

    status: int
    type: str = ""
    code: str | None = None


def _nothing() -> dict[str, type[ProviderError]]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorTable(ErrorReader):
    """The errors of one vendor.

    To classify a failure, an exact name is looked up first, then a part of a name, then the status, then the
    words. If a name only means an invalid request, the status and the words decide.

    Args:
        written: Status, type and code by turnstream's code. An error whose class is missing is written as its
            base class.
        body: Builds the JSON from a WrittenError, the message, and the seconds to wait.
        names: Classes by the vendor's codes and types, in lower case.
        parts: Classes by parts of codes and types, in lower case. The first match decides.
        words: Classes by parts of the vendor's messages, in lower case, used if nothing else is known.
        statuses: Classes by the statuses of refused calls. Inside a stream `STATUSES` applies, because
            proxies write them there.
        means_statuses: True if a status of 500 or more decides; of the words only a context overflow counts
            then.
        quota_words: Parts of codes and types that mean an exhausted quota.
        model_failures: Names for failures of the model rather than of the API.
        unknown: Kind of a failure whose names are all unknown.
        names_are_codes: True if the vendor's names are turnstream's codes too, unknown names included.
        passes_codes: True if a code without a class is written unchanged.
        name_header: Header that holds the error's name, in lower case.
        too_long: Prefix for messages about context overflow, for a vendor without a code for it.
    """

    written: Mapping[str, WrittenError]
    body: Callable[[WrittenError, str, float | None], JsonObject]
    names: Mapping[str, type[ProviderError]] = field(default_factory=_nothing)
    parts: tuple[tuple[str, type[ProviderError]], ...] = ()
    words: tuple[tuple[str, type[ProviderError]], ...] = ()
    statuses: Mapping[int, type[ProviderError]] = field(default_factory=lambda: STATUSES)
    means_statuses: bool = False
    quota_words: tuple[str, ...] = ()
    model_failures: frozenset[str] = frozenset()
    unknown: ErrorKind = "internal_server"
    names_are_codes: bool = False
    passes_codes: bool = False
    name_header: str = ""
    too_long: str = ""

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Return the typed error for a response whose `status` is not 2xx."""
        reported = self.read_body(body)._replace(status=status)
        named = next((value for name, value in headers.items() if name.lower() == self.name_header), None)
        if named:
            reported = reported._replace(names=(named, *reported.names))
        kind, code = self._classify(reported, self.statuses)
        error = kind(
            MESSAGES[code],
            code=code,
            retryable=False if code == QUOTA_CODE else None,
            provider_status=status,
            detail=reported.words or None,
            retry_after=retry_after(headers) if reported.wait is None else reported.wait,
        )
        error.rate_limits = rate_limits(headers)
        return error

    def stream_error(self, reported: ReportedError) -> StreamError:
        """Return the StreamError for a failure reported inside a stream."""
        found, code = self._classify(reported, STATUSES)
        kind: ErrorKind = _KINDS.get(found, "validation")
        name = next((name for name in reversed(reported.names) if name.isidentifier()), None)
        if not self.model_failures.isdisjoint(reported.names):
            kind = "model_stream"
        elif name is None:
            pass
        elif (known := self._class_of(name)) is None and found is ProviderFailed and reported.status is None:
            kind, code = self.unknown, name if self.names_are_codes else code
        elif known is found and self.names_are_codes:
            code = name
        return StreamError(kind, code, reported.words, reported.status)

    def encode_error(self, error: ProviderError) -> tuple[int, bytes]:
        """Return the status and the JSON body of an error in the vendor's format."""
        written = self.written_as(error.code, type(error))
        body = self.body(written, self.prefixed_message(error.code, error.message), error.retry_after)
        return written.status, encode_json(body)

    def dump_error(self, error: StreamError) -> JsonObject:
        """Return the JSON of the event with which the vendor ends a failed stream."""
        written = self.written_as(error.code)
        return self.body(written, self.prefixed_message(error.code, error.message), None)

    def written_as(self, code: str, kind: type[ProviderError] | None = None) -> WrittenError:
        """Return the status and names for an error of this code and class. Without a row for the class or a
        base of it, the row of ProviderFailed is used."""
        if code in self.written:
            return self.written[code]
        kind = kind or CLASSES.get(code)
        bases = () if kind is None else (base for base in kind.__mro__ if issubclass(base, ProviderError))
        known = (self.written[base.code] for base in bases if base.code in self.written)
        if kind is None and self.passes_codes:
            return WrittenError(500, code, code)
        written = next(known, self.written[ProviderFailed.code])
        has_own = self.passes_codes and written.code is None and code not in CLASSES
        return written._replace(code=code) if has_own else written

    def prefixed_message(self, code: str, message: str) -> str:
        """Return the message, with the prefix `too_long` if the vendor has no code for context overflow."""
        if code == ContextLengthExceeded.code and self.too_long and not means_overflow(message):
            return f"{self.too_long} {message}"
        return message

    def _classify(
        self, reported: ReportedError, statuses: Mapping[int, type[ProviderError]]
    ) -> tuple[type[ProviderError], str]:
        """Return the class and code of a failure."""
        meaning = self._meaning_of(reported, statuses)
        if meaning.error is RateLimited and (
            reported.status == 402
            or any(part in name.lower() for part in self.quota_words for name in reported.names)
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
    """Return the seconds to wait that a provider requests (RFC 9110 10.2.3), or None.

    A date is relative to the response's own Date header, so that no clock is needed.
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


def rate_limits(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that report rate limits, such as `x-ratelimit-remaining-requests`."""
    found = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in found.items() if "ratelimit-" in name and value.isascii()}


def _date(value: str | None) -> datetime | None:
    try:
        date = parsedate_to_datetime(value) if value else None
    except ValueError:
        return None
    return date if date is None or date.tzinfo is not None else None
