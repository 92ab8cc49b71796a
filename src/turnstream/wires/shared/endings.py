"""Ends of a model's answer, as the provider's word for it says: a success, a refusal, or a failure of the call.

Each wire has one table of the words it knows. Words that are in no table are judged by their parts here, so that a new
`malformed_…` or `…_filter` is no success. A word that says nothing to us ends an answer only if something was said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from turnstream.core.stream_events import MessageStop, StopReason, StreamError, StreamNotice
from turnstream.errors import MalformedEvent, Overloaded, ProviderFailed

Failed: TypeAlias = Literal["failed", "overloaded"]
"""The model, or its provider, gave up: the call may be tried again, or another model asked."""
Ending: TypeAlias = StopReason | Failed

_BY_PART: tuple[tuple[str, Ending], ...] = (
    (r"function_call_filter|tool_call_filter", "failed"),
    (r"refus", "refusal"),
    (r"guardrail", "guardrail_intervened"),
    (
        r"filter|safety|block|prohibit|moderat|policy|sensitive|recitation|copyright|spii|harm|toxic|censor",
        "content_filtered",
    ),
    (
        r"overload|insufficient_system_resource|unavailable|capacity|rate_limit|throttl|quota|exhaust",
        "overloaded",
    ),
    (
        r"malformed|error|fail|abort|cancel|timeout|time_?limit|timed_out|unexpected|invalid|crash|interrupt",
        "failed",
    ),
    (r"too_many|missing_|no_image|repetition|load", "failed"),
    (r"kill|out_of_memory|^oom|cache_full|preempt|disconnect|broken|shut_?down|evict|deadline", "failed"),
    (r"truncat|max_.*tokens|token_limit|length|context_window", "max_tokens"),
)
_PARTS: tuple[tuple[re.Pattern[str], Ending], ...] = tuple(
    (re.compile(part), ending) for part, ending in _BY_PART
)
_SUCCESSES = frozenset({"end_turn", "tool_use", "stop_sequence"})
_FIRST_WORD = re.compile(r"[\w\-]*")


def table_of(*rows: tuple[Ending, *tuple[str, ...]]) -> dict[str, Ending]:
    """Return the table of a wire. Each row is an ending and the words for it, in lower case."""
    return {word: ending for ending, *words in rows for word in words}


def ending_of(raw: str, table: Mapping[str, Ending]) -> Ending:
    """Return what a provider's word means by `table`, whose keys are lower case, or by its parts, or else `unknown`.

    Some gateways write more words behind a colon. The first word decides, unless it is a success and the others say that
    the answer failed or was cut.
    """
    word = raw.strip().lower()
    if word in table:
        return table[word]
    key = word.replace("-", "_").replace(" ", "_")
    first = _FIRST_WORD.match(word)
    if first is not None and (ending := table.get(first[0])) is not None:
        return (_by_parts(key[len(first[0]) :]) if ending in _SUCCESSES else None) or ending
    return _by_parts(key) or "unknown"


def _by_parts(key: str) -> Ending | None:
    return next((ending for part, ending in _PARTS if part.search(key)), None)


def stop_reason_of(ending: Ending) -> StopReason:
    """Return the ending as a stop reason. A failed one, which has none, is `unknown`."""
    match ending:
        case "failed" | "overloaded":
            return "unknown"
        case _:
            return ending


def is_word_for(raw: str, reason: StopReason | None, table: Mapping[str, Ending]) -> bool:
    """Return True if a wire with this table can say `raw` for `reason`: a word that it knows, or one that nobody knows."""
    return stop_reason_of(table.get(raw.lower(), "unknown")) == reason


def failed_ending(
    ending: Ending | None, raw: str | None, *, said: bool, words: str = ""
) -> StreamError | None:
    """Return the failure that an ending is, or None if it is a success or a refusal.

    `said`: the answer has content besides thinking. `words`: what the provider tells of the reason.
    """
    if ending not in ("failed", "overloaded") and (ending != "unknown" or said):
        return None
    message = f"the model ended the answer with {raw}" + (f": {words}" if words else "")
    if ending == "overloaded":
        return StreamError("service_unavailable", Overloaded.code, message)
    return StreamError("model_stream", ProviderFailed.code, message)


def stop_event(
    ending: Ending | None, raw: str | None, sequence: str | None = None, *, said: bool, words: str = ""
) -> MessageStop | StreamError:
    """Return the event that ends the answer."""
    failure = failed_ending(ending, raw, said=said, words=words)
    if failure is not None:
        return failure
    return MessageStop(None if ending is None else stop_reason_of(ending), raw, sequence)


AFTER_END = StreamNotice("after_end", "the provider sent more after the end of its answer; it is left out")


class SecondAnswer(MalformedEvent):
    """Another answer begins before the first has ended. To skip this would make one answer of two."""

    def __init__(self) -> None:
        super().__init__("a second answer begins before the first has ended")


class LateEvents:
    """Gives one notice for all that comes after the end."""

    __slots__ = ("_is_told",)

    def __init__(self) -> None:
        self._is_told = False

    def notice(self) -> list[StreamNotice]:
        """Return the notice for an event that is left out; nothing if it was given before."""
        if self._is_told:
            return []
        self._is_told = True
        return [AFTER_END]
