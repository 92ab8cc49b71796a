"""Classifies failures by their words, on any wire: plain text, HTML, JSON without a code, and codes that are
too general.

Providers answer 400 to a wrong key, to an unknown model, and to an account without credit. The request is
valid in all of these cases: another model can answer it. Temporary statuses (408, 409, 425) do not mean a
refusal either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from turnstream.core.stream_events import StreamError
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

QUOTA_CODE = "insufficient_quota"
"""Code for an account without credit or quota. Waiting does not help."""
MESSAGES: dict[str, str] = {
    AuthenticationFailed.code: "the provider refused the key",
    PermissionDenied.code: "the key may not use this model",
    ModelNotFound.code: "the provider does not know this model",
    InvalidModelRequest.code: "the provider refused the request",
    ContextLengthExceeded.code: "the conversation is longer than the model's context",
    ContentFiltered.code: "the provider's content filter refused the request",
    RateLimited.code: "the provider's rate limit is reached",
    QUOTA_CODE: "the account has no credit or quota left",
    Overloaded.code: "the provider is overloaded",
    ProviderFailed.code: "the provider failed",
    ProviderTimeout.code: "the provider took too long",
}
"""Messages of errors by turnstream's code. The provider's words go into `detail`."""


class FailureMeaning(NamedTuple):
    """Class of a failure, and its code if it differs from the code of the class."""

    error: type[ProviderError]
    code: str | None = None


_REFUSALS: tuple[tuple[str, FailureMeaning], ...] = (
    (
        r"""credit\ balance | insufficient[\ _](credits?|balance|funds|quota) | out\ of\ (credits?|quota)
        | billing\ (hard\ )?limit | usage\ limits?\b.{0,80}\bregain\ access | 余额不足 | 欠费""",
        FailureMeaning(RateLimited, QUOTA_CODE),
    ),
    (
        (
            r"""\bapi[\ _-]?key\b.{0,60}\b(not\ valid|invalid|incorrect|expired|revoked"""
            r"""|disabled|not\ found|missing)
        | \b(invalid|incorrect|expired|missing|no|wrong)\ ((or\ )?\w+\ )?api[\ _-]?key\b
        | \bkey\ (is\ )?not\ valid\b | \Aauthentication\ failed
        | \b(invalid|expired|incorrect)\ (access|auth\w*|bearer|security)[\ _]token\b
        | \b(access|auth\w*|bearer|security)\ token\b.{0,40}\b(invalid|expired)
        | \binvalid\ (x-api-key|credentials|authentication)\b"""
        ),
        FailureMeaning(AuthenticationFailed),
    ),
    (
        (
            r"""\bmodels?\b[^;,\n]{0,120}?\b(not\ found|(does\ not|doesn't|not)\ exist|decommissioned|retired
            |no\ longer\ (available|supported|exists?)|(is\ )?not\ (available|a\ valid\b.{0,20}\bmodel)"""
            r"""|is\ invalid)
        | \b(unknown|invalid|unrecognized|no\ such|nonexistent)\ model\b(?!\ (output|response|param))
        | \bnot\ a\ valid\ model\b | \bmodel_not_found\b | \bmodel\ not\ exist\b
        | \bdeployment\b[^;,\n]{0,80}\b(does\ not\ exist|not\ found) | \bno\ endpoints\ found\b | 模型不存在"""
        ),
        FailureMeaning(ModelNotFound),
    ),
)
"""Words that override a code or a status which only means a refused request."""
_OTHERS: tuple[tuple[str, FailureMeaning], ...] = (
    (
        (
            r"rate.?limit | too\ many\ requests | throttl | quota"
            r" | usage\ limit | insufficient\ (?:balance|credits?)"
        ),
        FailureMeaning(RateLimited),
    ),
    (
        (
            r"""overloaded | service\ (?:is\ )?(?:temporarily\ )?unavailable | server\ (?:is\ )?busy"""
            r""" | at\ capacity
        | no\ healthy\ upstream"""
        ),
        FailureMeaning(Overloaded),
    ),
    (
        r"""unauthori[sz]ed | not\ authenticated | authentication | api\ key\ not\ valid
        | (?:invalid|incorrect|missing|expired)\ (?:api|access)[\ _-]?(?:key|token)""",
        FailureMeaning(AuthenticationFailed),
    ),
    (r"forbidden | permission\ denied | access\ denied | not\ allowed\ to", FailureMeaning(PermissionDenied)),
    (r"gateway\ time-?out | request\ (?:timed\ out|time-?out)", FailureMeaning(ProviderTimeout)),
    (r"model\ .{0,80}(?:not\ found|does\ not\ exist) | no\ such\ model", FailureMeaning(ModelNotFound)),
)
"""Words that decide if nothing else is known."""


def _compiled(
    rows: tuple[tuple[str, FailureMeaning], ...],
) -> tuple[tuple[re.Pattern[str], FailureMeaning], ...]:
    return tuple((re.compile(words, re.IGNORECASE | re.VERBOSE), meaning) for words, meaning in rows)


_REFUSAL_PATTERNS = _compiled(_REFUSALS)
_OTHER_PATTERNS = _compiled(_OTHERS)
_STATUS = re.compile(
    r"(?:\A|HTTP/[\d.]+ |\bHTTP |\bstatus(?:[ _]code)?[:= ]+|\berror(?: code)?[:= ]+)([45]\d\d)\b",
    re.IGNORECASE,
)
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    403: PermissionDenied,
    408: ProviderTimeout,
    429: RateLimited,
    502: ProviderFailed,
    503: Overloaded,
    504: ProviderTimeout,
    529: Overloaded,
}  # fmt: skip
"""Classes by the statuses that words name. 404 is missing: pages of proxies use it for more than models."""
_ERROR_WORDS = re.compile(
    r"error|exception|fail|denied|refused|forbidden|unauthori[sz]ed|not authenticated|limit|too many"
    r"|overload|unavailable|exceed|timed? ?-?out|bad gateway|quota|invalid|not found|terminated|abort"
    r"|reset|traceback|crash|killed|panic",
    re.IGNORECASE,
)
_LONGEST = 2000
_WORDS_STATUSES = frozenset({None, 400, 403, 404, 422})
"""Statuses for which the words decide. Other statuses are specific enough."""
_QUOTA_STATUS = 402
_QUOTA_CODES = frozenset({QUOTA_CODE, "billing_error"})
_PASSING: dict[int, tuple[type[ProviderError], str]] = {
    408: (ProviderTimeout, "the provider took too long"),
    409: (ProviderFailed, "the request met another one at the provider"),
    425: (ProviderFailed, "the provider was not ready for the request"),
}


def meaning_of_words(words: str) -> FailureMeaning | None:
    """Return the meaning of a failure of which only the words are known, or None if they are not specific."""
    words = words[:_LONGEST]
    if means_overflow(words):
        return FailureMeaning(ContextLengthExceeded)
    for pattern, meaning in _OTHER_PATTERNS:
        if pattern.search(words):
            return meaning
    status = _STATUS.search(words)
    found = _BY_STATUS.get(int(status[1])) if status else None
    return FailureMeaning(found) if found else None


def meaning_of_refusal(status: int | None, words: str) -> FailureMeaning | None:
    """Return a more specific meaning of a refused request, or None if its words have none."""
    if status not in _WORDS_STATUSES:
        return None
    return next((meaning for pattern, meaning in _REFUSAL_PATTERNS if pattern.search(words)), None)


def is_probably_failure(words: str) -> bool:
    """Return True if `words`, which are not marked as an error, probably report an error."""
    return _ERROR_WORDS.search(words[:_LONGEST]) is not None


def reclassified(error: ProviderError) -> ProviderError:
    """Return the error with the class and code that its words mean: `error` itself, or a changed copy."""
    if error.code in _QUOTA_CODES or error.provider_status == _QUOTA_STATUS:
        return _as_quota_error(error)
    if isinstance(error, RateLimited):
        return error if error.retryable else _as_quota_error(error)
    if type(error) is not InvalidModelRequest and type(error) is not PermissionDenied:
        return error
    if (passing := _PASSING.get(error.provider_status or 0)) is not None:
        return _changed(error, *passing)
    meaning = meaning_of_refusal(error.provider_status, error.detail or "")
    if meaning is None:
        return error
    if meaning.code == QUOTA_CODE:
        return _as_quota_error(error)
    return _changed(error, meaning.error, MESSAGES[meaning.error.code])


class OverflowWords:
    """Regular expressions from the settings that match one provider's words for context overflow. They
    override its codes and statuses."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._words = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
        self._known = bool(patterns)

    def error(self, error: ProviderError) -> ProviderError:
        """Return the error, or a ContextLengthExceeded if its words match."""
        if self._known and error.detail and self._words.search(error.detail):
            return _changed(error, ContextLengthExceeded, MESSAGES[ContextLengthExceeded.code])
        return error

    def event(self, event: StreamError) -> StreamError:
        """Return the event, with the code of ContextLengthExceeded if its words match."""
        if self._known and self._words.search(event.message):
            return StreamError("validation", ContextLengthExceeded.code, event.message, event.provider_status)
        return event


def _as_quota_error(error: ProviderError) -> ProviderError:
    if error.code == QUOTA_CODE and isinstance(error, RateLimited) and not error.retryable:
        return error
    changed = _changed(error, RateLimited, MESSAGES[QUOTA_CODE], QUOTA_CODE)
    changed.retryable = False
    return changed


def _changed(
    error: ProviderError, kind: type[ProviderError], message: str, code: str | None = None
) -> ProviderError:
    changed = kind(
        message,
        code=code,
        provider_status=error.provider_status,
        detail=error.detail,
        retry_after=error.retry_after,
    )
    changed.request_id = error.request_id
    return changed
