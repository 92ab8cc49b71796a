"""Redaction of a text that arrives in pieces."""

from __future__ import annotations

from turnstream.safety.automaton import END, MAX_UNCERTAIN, Transition
from turnstream.safety.rules import RedactionFilter, RedactionRule


class Candidate:
    """The matches that begin at one place.

    Attributes:
        begin: Index of the place in the held text.
        end: Index after the longest match so far.
        rule: Rule of that match, or None without a match.
        was_refused: True if the check of a rule refused a match.
    """

    __slots__ = ("begin", "end", "rule", "was_refused")

    def __init__(self, begin: int) -> None:
        self.begin = self.end = begin
        self.rule: RedactionRule | None = None
        self.was_refused = False


class TextRedactor:
    """Replaces matches in a text that arrives in pieces.

    Any pieces of a text give the same result as the whole text. Only text that may still become a match, or
    a longer match, is held back.
    """

    def __init__(self, redaction: RedactionFilter) -> None:
        self._rules = redaction.rules
        self._automaton = redaction.automaton
        self._state = self._automaton.first
        self._held = ""
        self._before = ""
        """The character before the held text, or empty at the start of the text."""
        self._scanned = 0
        self._candidates: list[Candidate] = []
        """One for each group of the state, in the same order."""
        self._hides_match = False
        """True if a later candidate than the first ended with a match, or with one that was refused."""
        self.has_replaced = False
        """True once a match was replaced."""

    @property
    def held(self) -> str:
        """Text that is held back."""
        return self._held

    def feed(self, text: str) -> str:
        """Return the text that has become certain with `text`."""
        self._held += text
        automaton, shown = self._automaton, list[str]()
        while self._scanned < len(self._held):
            transition = automaton.step(self._state, automaton.column(self._held[self._scanned]))
            if transition.is_plain:  # nearly all characters
                self._state = transition.state
                self._scanned += 1
            else:
                self._step(transition, 1, shown)
        self._release(shown)
        return "".join(shown)

    def close(self) -> str:
        """Return the rest of the text. The redactor is ready for another text then."""
        shown = [self.feed("")]
        while self._candidates:
            self._step(self._automaton.step(self._state, END), 0, shown)
            shown.append(self.feed(""))
        self._state, self._before = self._automaton.first, ""
        return "".join(shown)

    def _step(self, transition: Transition, width: int, shown: list[str]) -> None:
        """Step over a character, whose width is 1, or over the end of the text, whose width is 0."""
        candidates = self._candidates
        for candidate, rules in zip(candidates, transition.accepted, strict=True):
            if rules:
                self._accept(candidate, rules)
        continued = [candidates[index] for index in transition.kept if index < len(candidates)]
        if len(continued) < len(candidates) and self._end(candidates, continued, shown):
            return
        if len(continued) < len(transition.kept):
            continued.append(Candidate(self._scanned))
        self._candidates = continued
        self._state = transition.state
        self._scanned += width

    def _end(self, candidates: list[Candidate], continued: list[Candidate], shown: list[str]) -> bool:
        """End the candidates that do not continue. Return True if the text is scanned again from there on."""
        first = candidates[0]
        ended = [candidate for candidate in candidates if candidate not in continued]
        self._hides_match |= any(one.rule or one.was_refused for one in ended if one is not first)
        if first not in ended:
            return False
        if first.rule is not None:
            self.has_replaced = True
            shown.append(self._held[: first.begin])
            shown.append(first.rule.replace(self._held[first.begin : first.end]))
            self._cut(first.end)
            self._restart(0)
            return True
        if first.was_refused or self._hides_match:
            self._restart(first.begin + 1)
            return True
        return False

    def _accept(self, candidate: Candidate, rules: tuple[int, ...]) -> None:
        """Note that some rules match from the candidate's start to the current place."""
        for number in rules:
            rule = self._rules[number]
            if rule.check is None or rule.check(self._held[candidate.begin : self._scanned]):
                candidate.end, candidate.rule = self._scanned, rule
                return
        candidate.was_refused = True

    def _restart(self, index: int) -> None:
        """Scan again from `index`, without matches under way."""
        before = self._held[index - 1] if index else self._before
        self._state = self._automaton.after(before)
        self._candidates, self._scanned, self._hides_match = [], index, False

    def _release(self, shown: list[str]) -> None:
        """Show what is certain."""
        if not self._candidates:
            shown.append(self._held)
            self._cut(self._scanned)
            return
        first = self._candidates[0]
        shown.append(self._held[: first.begin])
        self._cut(first.begin)
        if first.rule is not None and first.end > MAX_UNCERTAIN:
            self._cut(first.end)  # it is replaced in any case, and no check needs a text of this length

    def _cut(self, index: int) -> None:
        """Remove the first `index` characters of the held text."""
        if not index:
            return
        self._before = self._held[index - 1]
        self._held = self._held[index:]
        self._scanned -= index
        for candidate in self._candidates:
            candidate.begin = max(0, candidate.begin - index)
            candidate.end = max(0, candidate.end - index)


def redact_text(text: str, redaction: RedactionFilter) -> str:
    """Return a whole text with its matches replaced."""
    redactor = TextRedactor(redaction)
    return redactor.feed(text) + redactor.close()
