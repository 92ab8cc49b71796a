"""What a failed model call calls for: a table, and the arithmetic of waiting. Nothing here waits.

failure        what it is                                             where the next attempt may go
transient      a limit, an overload, a time-out, a broken stream      the same model, then the next
unreachable    a refused connection, an open circuit                  the next
unwilling      no key, no right, no such model, no quota, no such    the next
               option, too large a request or event, a redirect,
               or no words in its API for the request
too_long       more than the model reads                              the next that reads more
no_stream      the provider does not stream                           the same, with one plain call
no_prefill     the model does not go on with words of its own         the same, from the beginning
final          a wrong request, a content filter, too long an answer  nowhere
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from turnstream.errors import (
    CANNOT_CONTINUE,
    CircuitOpen,
    ConnectionFailed,
    ContentFiltered,
    ContextLengthExceeded,
    EventTooLarge,
    InvalidModelRequest,
    ProviderError,
    StreamBroken,
)

Kind: TypeAlias = Literal[
    "transient", "unreachable", "unwilling", "too_long", "no_stream", "no_prefill", "final"
]
Way: TypeAlias = Literal["same", "next", "larger"]
"""Where an attempt may go: to the model that failed, to another, to one that reads more."""

WAYS: dict[Kind, tuple[Way, ...]] = {
    "transient": ("same", "next"),
    "unreachable": ("next",),
    "unwilling": ("next",),
    "too_long": ("larger",),
    "no_stream": ("same", "next"),
    "no_prefill": ("same", "next"),
    "final": (),
}

AT_ONCE: frozenset[Kind] = frozenset({"no_stream", "no_prefill"})
"""What is answered by another kind of call needs no waiting."""

UNAVAILABLE: frozenset[Kind] = frozenset({"transient", "unreachable"})
"""What counts against a model's availability."""

_TOO_LARGE = 413
_TOO_LARGE_CODES = frozenset({"request_too_large"})
_UNSUPPORTED = re.compile(
    r"\b(un|not )supported\b|\b(does|do) not support\b|\b(doesn't|don't|isn't) support|\bnot support\b",
    re.IGNORECASE,
)
_STREAMLESS = frozenset({405, 501})
_NAMES_STREAM = re.compile(r"\bstream(ing|ed|s)?\b", re.IGNORECASE)


class RetryPolicy(NamedTuple):
    """How often and how long a step's calls are tried again.

    `attempts` on one model; before the second about `delay` seconds, then twice as long each time, at most `max_delay`.
    `budget`: seconds of waiting for a model, and of its attempts that brought nothing, after which it is not tried
    again; each model of a step has its own. `spacing`: no more than two attempts on one model begin within so many
    seconds. `silence`: seconds without output after which the other models are tried before the silent one.
    """

    attempts: int = 3
    delay: float = 1.0
    max_delay: float = 30.0
    budget: float = 120.0
    spacing: float = 1.5
    silence: float = 10.0


class CallState(NamedTuple):
    """The call that failed: whether it asked for a stream, gave the model words to go on with, and brought output."""

    streamed: bool = True
    prefilled: bool = False
    brought: bool = False


def kind_of(error: ProviderError, call: CallState | None = None) -> Kind:
    """What kind of failure `error` is, of such a call."""
    streamed, prefilled, brought = call or CallState()
    if isinstance(error, ContextLengthExceeded):
        return "too_long"
    if isinstance(error, ContentFiltered) or error.code == CANNOT_CONTINUE:
        return "final"
    if streamed and not brought and _refuses_stream(error):
        return "no_stream"
    if isinstance(error, InvalidModelRequest):
        if prefilled and not brought:
            return "no_prefill"
        return "unwilling" if _is_this_models_own(error) else "final"
    if isinstance(error, CircuitOpen):
        return "unreachable"
    if isinstance(error, EventTooLarge):
        return "unwilling"
    if error.retryable:
        return "transient"
    if isinstance(error, ConnectionFailed):
        return "unreachable"
    return "final" if isinstance(error, StreamBroken) else "unwilling"


def _is_this_models_own(error: InvalidModelRequest) -> bool:
    """Return True if a request was refused for what this model, or this provider, lacks. Another may take it."""
    if error.provider_status == _TOO_LARGE or error.code in _TOO_LARGE_CODES:
        return True
    return error.detail is not None and _UNSUPPORTED.search(error.detail) is not None


def _refuses_stream(error: ProviderError) -> bool:
    if error.provider_status in _STREAMLESS:
        return True
    if error.provider_status not in {400, 422} or not isinstance(error, InvalidModelRequest):
        return False
    return _NAMES_STREAM.search(f"{error.message} {error.detail or ''}") is not None


def pause_before(
    policy: RetryPolicy, failed: Sequence[float], now: float, *, chance: float, retry_after: float | None
) -> float:
    """Seconds to wait before a model is tried again. `failed`: when its attempts did; `chance`: between 0 and 1."""
    backoff = min(policy.max_delay, policy.delay * 2 ** (len(failed) - 1))
    return max(backoff * (0.5 + chance / 2), retry_after or 0.0, spacing_left(policy, failed, now))


def spacing_left(policy: RetryPolicy, failed: Sequence[float], now: float) -> float:
    """Seconds until another attempt may begin on a model. They count from the end of the last but one: when that arrived
    there is not known here, but it was before."""
    return max(0.0, failed[-2] + policy.spacing - now) if len(failed) > 1 else 0.0


def may_wait(policy: RetryPolicy, pause: float, lost: float, *, other: bool) -> bool:
    """Whether to wait so long for the same model, when `lost` seconds are lost already. Where there is an `other`, nobody
    is kept waiting for longer than `max_delay`."""
    return lost + pause <= policy.budget and (pause <= policy.max_delay or not other)
