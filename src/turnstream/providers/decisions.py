"""Decisions after a failed model call: a table, and the arithmetic of waiting. Nothing here waits.

failure        causes                                                 next attempt
transient      a limit, an overload, a timeout, a broken stream       the same model, then the next
unreachable    a refused connection, an open circuit                  the next model
unwilling      no key, no permission, no such model, no quota, an     the next model
               unsupported option, too large a request or event, a
               redirect, or a request that its API cannot express
too_long       more tokens than the context window                    the next model with a larger window
no_stream      the provider does not stream                           the same model, without a stream
no_prefill     the model does not continue its own text               the same model, from the beginning
final          a wrong request, a content filter, too long an answer  none
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
Target: TypeAlias = Literal["same", "next", "larger"]
"""Targets of an attempt: the model that failed, the next one, or the next one with a larger context."""

TARGETS: dict[Kind, tuple[Target, ...]] = {
    "transient": ("same", "next"),
    "unreachable": ("next",),
    "unwilling": ("next",),
    "too_long": ("larger",),
    "no_stream": ("same", "next"),
    "no_prefill": ("same", "next"),
    "final": (),
}

AT_ONCE: frozenset[Kind] = frozenset({"no_stream", "no_prefill"})
"""Failures that another kind of call avoids. The next attempt starts without a pause."""

UNAVAILABLE: frozenset[Kind] = frozenset({"transient", "unreachable"})
"""Failures that count against a model's availability."""

_TOO_LARGE = 413
_TOO_LARGE_CODES = frozenset({"request_too_large"})
_UNSUPPORTED = re.compile(
    r"\b(un|not )supported\b|\b(does|do) not support\b|\b(doesn't|don't|isn't) support|\bnot support\b",
    re.IGNORECASE,
)
_STREAMLESS = frozenset({405, 501})
_NAMES_STREAM = re.compile(r"\bstream(ing|ed|s)?\b", re.IGNORECASE)


class RetryPolicy(NamedTuple):
    """Limits on the attempts of one step."""

    attempts: int = 3
    """Attempts on one model."""
    delay: float = 1.0
    """Seconds, roughly, before the second attempt. The pause doubles each time."""
    max_delay: float = 30.0
    """Longest pause in seconds."""
    budget: float = 120.0
    """Seconds of pauses, and of attempts without output, after which a model is not retried.

    Each model has its own.
    """
    spacing: float = 1.5
    """Seconds in which at most two attempts on one model begin."""
    silence: float = 10.0
    """Seconds without output after which the other models come before the silent one."""


class CallState(NamedTuple):
    """Facts about the call that failed.

    Attributes:
        streamed: True if it requested a stream.
        prefilled: True if its request ended with the model's own text.
        has_output: True if it brought output.
    """

    streamed: bool = True
    prefilled: bool = False
    has_output: bool = False


def kind_of(error: ProviderError, call: CallState | None = None) -> Kind:
    """Return the kind of failure that `error` is for a call.

    `call`: the call's state. None: streamed, without output.
    """
    streamed, prefilled, has_output = call or CallState()
    if isinstance(error, ContextLengthExceeded):
        return "too_long"
    if isinstance(error, ContentFiltered) or error.code == CANNOT_CONTINUE:
        return "final"
    if streamed and not has_output and _refuses_stream(error):
        return "no_stream"
    if isinstance(error, InvalidModelRequest):
        if prefilled and not has_output:
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
    """Return True if the request was refused for a limit of this model or provider.

    Another one may accept it.
    """
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
    """Return the seconds to wait before a model is retried.

    Args:
        policy: Delays in seconds.
        failed: Times at which the attempts on the model failed, in seconds.
        now: Current time in seconds.
        chance: Random number between 0 and 1, for the jitter.
        retry_after: Seconds that the provider requested, or None.
    """
    backoff = min(policy.max_delay, policy.delay * 2 ** (len(failed) - 1))
    return max(backoff * (0.5 + chance / 2), retry_after or 0.0, spacing_left(policy, failed, now))


def spacing_left(policy: RetryPolicy, failed: Sequence[float], now: float) -> float:
    """Return the seconds until another attempt on a model may begin.

    They count from the failure of the attempt before the last, because the start of an attempt is not known.
    """
    return max(0.0, failed[-2] + policy.spacing - now) if len(failed) > 1 else 0.0


def may_wait(policy: RetryPolicy, pause: float, lost: float, *, other: bool) -> bool:
    """Return True if `pause` seconds may be spent on the same model after `lost` seconds.

    They must fit in the budget, and in `max_delay` if there is an `other` model.
    """
    return lost + pause <= policy.budget and (pause <= policy.max_delay or not other)
