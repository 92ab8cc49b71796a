"""The class of a failure of which only words are known: plain text, HTML, JSON without a code.

Wires ask this last, after codes, types and statuses. The first entry that is found decides.
"""

from __future__ import annotations

import re

from turnstream.errors import (
    AuthenticationFailed,
    ContextLengthExceeded,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
)
from turnstream.wires.shared.context_overflow import means_overflow

_BY_WORDS: tuple[tuple[type[ProviderError], str], ...] = (
    (
        RateLimited,
        r"rate.?limit|too many requests|throttl|quota|usage limit|insufficient (?:balance|credits?)",
    ),
    (
        Overloaded,
        r"overloaded|service (?:is )?(?:temporarily )?unavailable|server (?:is )?busy|at capacity|no healthy upstream",
    ),
    (AuthenticationFailed, r"unauthori[sz]ed|not authenticated|authentication|api key not valid"),
    (AuthenticationFailed, r"(?:invalid|incorrect|missing|expired) (?:api|access)[ _-]?(?:key|token)"),
    (PermissionDenied, r"forbidden|permission denied|access denied|not allowed to"),
    (ProviderTimeout, r"gateway time-?out|request (?:timed out|time-?out)"),
    (ModelNotFound, r"model .{0,80}(?:not found|does not exist)|no such model"),
)
_PATTERNS = tuple((re.compile(words, re.IGNORECASE), found) for found, words in _BY_WORDS)
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
_ERROR_WORDS = re.compile(
    r"error|exception|fail|denied|refused|forbidden|unauthori[sz]ed|not authenticated|limit|too many|overload|unavailable"
    r"|exceed|timed? ?-?out|bad gateway|quota|invalid|not found|terminated|abort|reset|traceback|crash|killed|panic",
    re.IGNORECASE,
)
_LONGEST = 2000


def class_in_words(words: str) -> type[ProviderError] | None:
    """Return the class of the failure that `words` describe, or None if they do not say."""
    words = words[:_LONGEST]
    if means_overflow(words):
        return ContextLengthExceeded
    for pattern, found in _PATTERNS:
        if pattern.search(words):
            return found
    status = _STATUS.search(words)
    return _BY_STATUS.get(int(status[1])) if status else None


def sounds_like_failure(words: str) -> bool:
    """Return True if `words`, which nothing marks as an error, are likely to report one."""
    return _ERROR_WORDS.search(words[:_LONGEST]) is not None
