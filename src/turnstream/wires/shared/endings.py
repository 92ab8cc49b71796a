"""Maps a provider's stop reason to an ending: success, refusal or failure of the call.

Each wire has one table of the words that it knows. An unknown word is judged by its parts, so that a new
`malformed_…` or `…_filter` is not taken for a success. A word without a known part ends the answer
successfully only if the answer has content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from turnstream.core.stream_events import (
    MessageStop,
    RedactContent,
    StopReason,
    StreamError,
    StreamNotice,
)
from turnstream.errors import MalformedEvent, Overloaded, ProviderFailed

Failed: TypeAlias = Literal["failed", "overloaded"]
"""The model or its provider failed: the call can be retried, or another model called."""
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
    """Return the table of a wire. Each row is an ending and its words, in lower case."""
    return {word: ending for ending, *words in rows for word in words}


def ending_of(raw: str, table: Mapping[str, Ending]) -> Ending:
    """Return the ending for a provider's word.

    `table` is searched for the word, and then for its parts. A word without a match has the ending `unknown`.
    The keys of `table` are lower case.

    Some gateways append more words after a colon. The first word decides, unless it means success and the
    rest says that the answer failed or was truncated.
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
    """Return the stop reason of an ending. A failure has none, and gives `unknown`."""
    match ending:
        case "failed" | "overloaded":
            return "unknown"
        case _:
            return ending


def means_reason(raw: str, reason: StopReason | None, table: Mapping[str, Ending]) -> bool:
    """Return True if a wire can write the word `raw` for a stop reason.

    Args:
        raw: The word.
        reason: The stop reason, or None.
        table: The words of the wire. A word that is not in it means `unknown`.
    """
    return stop_reason_of(table.get(raw.lower(), "unknown")) == reason


def failed_ending(
    ending: Ending | None, raw: str | None, *, has_output: bool, words: str = ""
) -> StreamError | None:
    """Return the error for a failed ending, or None for a success or a refusal.

    Args:
        ending: The ending, or None if the provider gave no reason.
        raw: The provider's word.
        has_output: True if the answer has content other than thinking.
        words: The provider's explanation, or an empty string.
    """
    if ending not in ("failed", "overloaded") and (ending != "unknown" or has_output):
        return None
    message = f"the model ended the answer with {raw}" + (f": {words}" if words else "")
    if ending == "overloaded":
        return StreamError("service_unavailable", Overloaded.code, message)
    return StreamError("model_stream", ProviderFailed.code, message)


def stop_event(
    ending: Ending | None, raw: str | None, sequence: str | None = None, *, has_output: bool, words: str = ""
) -> MessageStop | StreamError:
    """Return the event that ends the answer: a stop, or an error for a failed ending.

    Args:
        ending: The ending, or None if the provider gave no reason.
        raw: The provider's word.
        sequence: The stop sequence that ended the answer, or None.
        has_output: True if the answer has content other than thinking.
        words: The provider's explanation, or an empty string.
    """
    failure = failed_ending(ending, raw, has_output=has_output, words=words)
    if failure is not None:
        return failure
    return MessageStop(None if ending is None else stop_reason_of(ending), raw, sequence)


WITHDRAWN = "[The provider withdrew this answer.]"
"""Text in place of an answer that its provider withdrew without another text."""
BLOCKED = "[The provider blocked this message.]"
"""Text in place of a user's message that a guardrail blocked without another text."""


def withdrawn_answer(replacement: str = "") -> RedactContent:
    """Return the event that replaces the content of the call."""
    return RedactContent("assistant", replacement or WITHDRAWN)


def blocked_message(replacement: str = "") -> RedactContent:
    """Return the event that replaces the user's message."""
    return RedactContent("user", replacement or BLOCKED)


AFTER_END = StreamNotice(
    "after_end", "the provider sent more data after the end of its answer; the data is discarded"
)


class SecondAnswer(MalformedEvent):
    """Raised if another answer begins before the first has ended. It cannot be skipped: that would merge two
    answers."""

    def __init__(self) -> None:
        super().__init__("a second answer begins before the first has ended")


class LateEvents:
    """Gives one notice for all events after the end."""

    __slots__ = ("_is_reported",)

    def __init__(self) -> None:
        self._is_reported = False

    def notice(self) -> list[StreamNotice]:
        """Return the notice for a discarded event. Empty after the first call."""
        if self._is_reported:
            return []
        self._is_reported = True
        return [AFTER_END]
