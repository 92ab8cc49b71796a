"""Picks the choice of a chat.completions stream that is the answer.

A request for several answers (`n` above 1) returns choices with several indexes, in one chunk or in several.
The answer is then the choice with the lowest index. A notice names the other choices. Some vendors instead
count chunks, or parts of one answer, in the same field. Then every choice belongs to the answer. Both cases
begin alike, so a choice with another index is held until one of these decides:

    several answers    two indexes in one chunk, an index that returns after another, or another index
                       after the answer has its finish_reason
    one answer         RISING indexes with text or calls, none of which returns after another; MOST_HELD
                       choices; or the end

If the first index is above 0, at most MOST_BEFORE_FIRST choices are held, because choice 0 may follow.
"""

from __future__ import annotations

from turnstream.errors import MalformedEvent
from turnstream.wires.openai_chat.chunks import Choice

RISING = 4
MOST_BEFORE_FIRST = 8
MOST_HELD = 256


class ChoicePicker:
    """Picks the choices of one response that belong to the answer.

    Attributes:
        index: Index of the answer, or None if it is not known yet.
        others: Indexes of other answers.
        settled: Index that can be decoded without a call of `pick`, or None.
    """

    def __init__(self) -> None:
        self.index: int | None = None
        self.settled: int | None = None
        self.others: set[int] = set()
        self._held: list[Choice] = []
        self._counts = False

    @property
    def holds_end(self) -> bool:
        """True if a held choice has a finish_reason. It may be the end of the answer."""
        return any(choice.finish_reason for choice in self._held)

    def pick(self, choices: list[Choice], *, ended: bool) -> list[Choice]:
        """Return the choices to decode now, in order: some of `choices` (of one chunk) and of the held
        choices.

        `ended` is True if the answer has its finish_reason. Raises MalformedEvent if an index returns after
        the indexes were taken for a count: two answers must not be spliced.
        """
        if self._counts:
            return self._choose_next(choices)
        self._held += choices
        held = _indexes(self._held)
        if self.index is None:
            if 0 not in held and len(held) < MOST_BEFORE_FIRST and len(self._answering_indexes()) < RISING:
                return []
            self.index = min(held)
        if set(held) == {self.index}:
            self.settled = self.index
            return self._release(len(held))
        in_order = held == sorted(held) and held[0] >= self.index
        if self.others or ended or not in_order or len(set(_indexes(choices))) > 1:
            return self._keep_chosen()
        self.settled = None
        if len(self._answering_indexes() | {self.index}) >= RISING or len(held) >= MOST_HELD:
            self._counts = True
            self.index = held[-1]
            return self._release(len(held))
        return self._release(held.count(self.index))

    def rest(self, *, ended: bool) -> list[Choice]:
        """Return the held choices that belong to the answer, at the end of the message."""
        if not self._held:
            return []
        held = _indexes(self._held)
        if self.index is None:
            self.index = min(held)
        if ended or held != sorted(held):
            return self._keep_chosen()
        last = next((index_of(choice) for choice in self._held if choice.finish_reason), held[-1])
        self.others |= {index for index in held if index > last}
        return self._release(sum(index <= last for index in held))

    def _answering_indexes(self) -> set[int]:
        """Return the indexes of held choices with more than a role: several answers may begin with roles
        alone."""
        return {index_of(choice) for choice in self._held if _answers(choice)}

    def _keep_chosen(self) -> list[Choice]:
        """Discard the held choices of other answers, and release those of this answer."""
        self.settled = self.index
        self.others |= set(_indexes(self._held)) - {self.settled or 0}
        self._held = [choice for choice in self._held if index_of(choice) == self.index]
        return self._release(len(self._held))

    def _choose_next(self, choices: list[Choice]) -> list[Choice]:
        indexes = _indexes(choices)
        if len(set(indexes)) > 1 or indexes[0] < (self.index or 0):
            raise MalformedEvent("choices of several answers cannot be distinguished", retryable=False)
        self.index = indexes[0]
        return choices

    def _release(self, count: int) -> list[Choice]:
        released, self._held = self._held[:count], self._held[count:]
        return released


def index_of(choice: Choice) -> int:
    return choice.index or 0


def _indexes(choices: list[Choice]) -> list[int]:
    return [choice.index or 0 for choice in choices]


def _answers(choice: Choice) -> bool:
    delta = choice.delta
    if delta is None:
        return bool(choice.text)
    values = (choice.text, delta.content, delta.reasoning_content, delta.reasoning, delta.tool_calls)
    return any(values)
