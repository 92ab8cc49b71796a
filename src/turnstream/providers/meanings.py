"""Errors whose class says less than their status and words do: what a refused request really means, on any wire.

Providers answer 400 to a wrong key, to a model that they do not have, and to an account without credit. None of these is a
fault of the request: another model can answer it. A status that passes (408, 409, 425) is no refusal either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from turnstream.core.stream_events import StreamError
from turnstream.errors import (
    AuthenticationFailed,
    ContextLengthExceeded,
    InvalidModelRequest,
    ModelNotFound,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)

QUOTA_CODE = "insufficient_quota"
"""The code of an account that has no credit or quota left. Waiting does not help."""

_UNPAID_STATUS = 402
_UNPAID_CODES = frozenset({QUOTA_CODE, "billing_error"})
_WORDS_STATUSES = frozenset({None, 400, 403, 404, 422})
"""Statuses whose words decide. With others the status says enough."""
_PASSING: dict[int, tuple[type[ProviderError], str]] = {
    408: (ProviderTimeout, "the provider took too long"),
    409: (ProviderFailed, "the request met another one at the provider"),
    425: (ProviderFailed, "the provider was not ready for the request"),
}


class _FailureMeaning(NamedTuple):
    words: re.Pattern[str]
    error: type[ProviderError]
    message: str
    code: str | None = None


def _meaning(
    words: str, error: type[ProviderError], message: str, code: str | None = None
) -> _FailureMeaning:
    return _FailureMeaning(re.compile(words, re.IGNORECASE | re.VERBOSE), error, message, code)


_MEANINGS = (
    _meaning(
        r"""credit\ balance | insufficient[\ _](credits?|balance|funds|quota) | out\ of\ (credits?|quota)
        | billing\ (hard\ )?limit | usage\ limits?\b.{0,80}\bregain\ access | 余额不足 | 欠费""",
        RateLimited,
        "the account has no credit or quota left",
        QUOTA_CODE,
    ),
    _meaning(
        r"""\bapi[\ _-]?key\b.{0,60}\b(not\ valid|invalid|incorrect|expired|revoked|disabled|not\ found|missing)
        | \b(invalid|incorrect|expired|missing|no|wrong)\ ((or\ )?\w+\ )?api[\ _-]?key\b
        | \bkey\ (is\ )?not\ valid\b
        | \b(invalid|expired|incorrect)\ (access|auth\w*|bearer|security)[\ _]token\b
        | \b(access|auth\w*|bearer|security)\ token\b.{0,40}\b(invalid|expired)
        | \binvalid\ (x-api-key|credentials|authentication)\b""",
        AuthenticationFailed,
        "the provider refused the key",
    ),
    _meaning(
        r"""\bmodels?\b[^;,\n]{0,120}?\b(not\ found|(does\ not|doesn't|not)\ exist|decommissioned|retired
            |no\ longer\ (available|supported|exists?)|(is\ )?not\ (available|a\ valid\b.{0,20}\bmodel)|is\ invalid)
        | \b(unknown|invalid|unrecognized|no\ such|nonexistent)\ model\b(?!\ (output|response|param))
        | \bnot\ a\ valid\ model\b | \bmodel_not_found\b | \bmodel\ not\ exist\b
        | \bdeployment\b[^;,\n]{0,80}\b(does\ not\ exist|not\ found) | \bno\ endpoints\ found\b | 模型不存在""",
        ModelNotFound,
        "the provider does not know this model",
    ),
)


class OverflowWords:
    """Regular expressions of the settings, for the words in which one provider says that a conversation is too long. They win
    over what its codes and statuses say."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._words = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
        self._known = bool(patterns)

    def error(self, error: ProviderError) -> ProviderError:
        """Return the error, or a ContextLengthExceeded in its place."""
        if self._known and error.detail and self._words.search(error.detail):
            return _changed(
                error, ContextLengthExceeded, "the conversation is longer than the model's context"
            )
        return error

    def event(self, event: StreamError) -> StreamError:
        """Return the event, with the code of a conversation that is too long if its words say so."""
        if self._known and self._words.search(event.message):
            return StreamError("validation", ContextLengthExceeded.code, event.message, event.provider_status)
        return event


def meant(error: ProviderError) -> ProviderError:
    """Return the error that `error` really is: itself, or one of another class with the same words."""
    if error.code in _UNPAID_CODES or error.provider_status == _UNPAID_STATUS:
        return _unpaid(error)
    if isinstance(error, RateLimited):
        return error if error.retryable else _unpaid(error)
    if type(error) is not InvalidModelRequest and type(error) is not PermissionDenied:
        return error
    if (passing := _PASSING.get(error.provider_status or 0)) is not None:
        return _changed(error, passing[0], passing[1])
    if error.provider_status in _WORDS_STATUSES and error.detail:
        for words, kind, message, code in _MEANINGS:
            if words.search(error.detail):
                return _unpaid(error) if code == QUOTA_CODE else _changed(error, kind, message)
    return error


def _unpaid(error: ProviderError) -> ProviderError:
    if error.code == QUOTA_CODE and isinstance(error, RateLimited) and not error.retryable:
        return error
    changed = _changed(error, RateLimited, "the account has no credit or quota left", QUOTA_CODE)
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
