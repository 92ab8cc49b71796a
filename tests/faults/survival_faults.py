"""The sixteen faults of providers that a turn must survive: how each is made, and how it must end.

`Scale` makes the same faults last milliseconds or seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from turnstream.config import (
    RetrySettings,
    Timeouts,
)
from turnstream.simulator.script import story

EVENTS = 60
SEED = 3
TWO_THIRDS = EVENTS * 2 // 3
OTHER_SEED = 4


def story_of(seed: int) -> str:
    return "".join(getattr(event, "text", "") for event in story(EVENTS, seed))


STORY = story_of(SEED)
"""Answer of every model without a fault."""
MOST_ATTEMPTS = 6
MOST_WITHIN_SPACING = 2
EVENT_LIMIT = 16 * 1024
"""Bytes that one event of a provider may have."""
LOGGED = 5000
"""Requests that the simulator remembers."""


class Scale(NamedTuple):
    """Times in seconds. `within`: limit for the end of the whole turn."""

    retry: RetrySettings
    timeouts: Timeouts
    pace: float
    slow: float
    retry_after: float
    down: float
    within: float


QUICK = Scale(
    RetrySettings(
        attempts=3,
        delay=0.04,
        max_delay=0.2,
        budget=10.0,
        spacing=0.15,
        silence=1.5,
        circuit_failures=4,
        circuit_seconds=0.5,
    ),
    Timeouts(connect=2.0, first_token=2.0, idle=2.0, total=20.0),
    pace=0.0005,
    slow=5.0,
    retry_after=0.1,
    down=1.5,
    within=30.0,
)
BASELINE = Scale(
    RetrySettings(attempts=3),
    Timeouts(connect=5.0, first_token=30.0, idle=30.0, total=120.0),
    pace=0.02,
    slow=20.0,
    retry_after=3.0,
    down=60.0,
    within=240.0,
)
"""Two retries and 30 s: what gateways are compared with."""
DEFAULTS = BASELINE._replace(retry=RetrySettings(), timeouts=Timeouts())
"""Settings that are the defaults."""
FULL = {"baseline": BASELINE, "defaults": DEFAULTS}


class Fault(NamedTuple):
    """`primary`: the options of the model that fails; `fallback`: of the one that is called then. `alone`:
    the code of the
    error without a fallback, None where the answer is whole all the same; `calls`: how often each is called
    then, and
    with a fallback. `told`: what kinds of notices there are with a fallback; `seed`: of the fallback's
    story. `slow`: the
    primary is only late, and answers where its first token is waited for long enough. `resets`: the primary
    cuts
    connections; a call over a kept one is sent twice then, as its server may have closed it meanwhile."""

    name: str
    primary: str
    alone: str | None
    calls_alone: int
    calls: tuple[int, int]
    told: frozenset[str] = frozenset({"fallback"})
    fallback: str = ""
    seed: int = SEED
    slow: bool = False
    resets: bool = False

    def at(self, scale: Scale) -> Fault:
        """Return the fault with the end that it must have at this scale."""
        if self.slow and scale.slow < scale.timeouts.first_token:
            return self._replace(alone=None, calls_alone=1, calls=(1, 0), told=frozenset())
        return self


_RETRIED = frozenset({"attempt_failed"})
_RETRIED_THEN_OTHER = frozenset({"attempt_failed", "fallback"})
_CONTINUED = frozenset({"continued"})
_AFTER = f"after={TWO_THIRDS}"

FAULTS = (
    Fault("429 with Retry-After once", "fault=error-before,status=429,retry-after={retry_after},times=1", None, 2, (2, 0), _RETRIED),
    Fault("429 for ever", "fault=error-before,status=429", "rate_limit_error", 3, (3, 1), _RETRIED_THEN_OTHER),
    Fault("500 once", "fault=error-before,status=500,times=1", None, 2, (2, 0), _RETRIED),
    Fault("503 for ever", "fault=error-before,status=503", "overloaded_error", 3, (3, 1), _RETRIED_THEN_OTHER),
    Fault("TCP reset before headers", "fault=reset", "connection_error", 3, (3, 1), _RETRIED_THEN_OTHER, resets=True),
    Fault("no response at all", "fault=hang", "first_token_timeout", 3, (1, 1)),
    Fault("20 s to the first token", "fault=slow-first,seconds={slow}", "first_token_timeout", 3, (1, 1), slow=True),
    Fault("cut after two thirds", f"fault=cut,{_AFTER}", "stream_incomplete", 3, (1, 1), _CONTINUED),
    Fault("stall in mid-stream", f"fault=silence,{_AFTER}", "idle_timeout", 3, (1, 1), _CONTINUED),
    Fault("one malformed event", f"fault=malformed,{_AFTER}", "malformed_event", 3, (1, 1), _CONTINUED),
    Fault("no end marker though complete", "fault=no-end", "stream_incomplete", 3, (1, 1), _CONTINUED),
    Fault(
        "context length exceeded",
        "fault=error-before,status=400,code=context_length_exceeded",
        "context_length_exceeded", 1, (1, 1),
    ),
    Fault("content filter", "fault=error-before,status=400,code=content_filtered", "content_filtered", 1, (1, 0), frozenset()),
    Fault(
        "cut, with a fallback that rejects prefill",
        f"fault=cut,{_AFTER}",
        "stream_incomplete", 3, (1, 2), frozenset({"continued", "restarted"}),
        "prefill=refuse",
    ),
    Fault("503 with accounting on the fallback", "fault=error-before,status=503", "overloaded_error", 3, (3, 1), _RETRIED_THEN_OTHER),
)  # fmt: skip
"""All but the one that takes several turns: down for a minute, then healthy."""

MORE_FAULTS = (
    Fault("409 once", "fault=error-before,status=409,times=1", None, 2, (2, 0), _RETRIED),
    Fault("425 for ever", "fault=error-before,status=425", "api_error", 3, (3, 1), _RETRIED_THEN_OTHER),
    Fault("413", "fault=error-before,status=413", "invalid_request_error", 1, (1, 1)),
    Fault("400 for an unknown model", "fault=error-before,status=400,code=not_found_error", "not_found_error", 1, (1, 1)),
    Fault("400 for a wrong key", "fault=error-before,status=400,code=authentication_error", "authentication_error", 1, (1, 1)),
    Fault("429 for a used up quota", "fault=error-before,status=429,code=insufficient_quota", "insufficient_quota", 1, (1, 1)),
    Fault("too large an event", f"fault=huge-event,size={2 * EVENT_LIMIT},{_AFTER}", "event_too_large", 1, (1, 1), _CONTINUED),
)  # fmt: skip
"""Refusals that another model can mend."""

OTHER_WORDS = tuple(
    Fault(name, f"fault={fault},{_AFTER}", code, 3, (1, 2), frozenset({"continued", "restarted"}), "prefill=refuse", OTHER_SEED)
    for name, fault, code in (
        ("cut, and the fallback says something else", "cut", "stream_incomplete"),
        ("stall, and the fallback says something else", "silence", "idle_timeout"),
    )
)  # fmt: skip
"""Answers that begin anew, in other words: of the first nothing may remain."""
