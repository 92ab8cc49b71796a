"""Patterns of redaction rules: the part of Python's regular expressions that an automaton can match.

A pattern has characters, classes (`[a-z]`, `\\d`, `\\s`, `\\w`, `.`), groups, alternatives, the repetitions
`*`, `+`, `?` and `{m,n}`, the boundaries `\\b`, `\\B`, `^` and `$` (start and end of the text), and the flag
`(?i)` at its start. Look-around, back references and lazy repetitions are refused: with them, the time to
match cannot be bounded, or a match depends on text that has not arrived.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from turnstream.errors import ConfigurationError
from turnstream.safety.characters import ANY, CharacterSet, Range

MAX_REPETITIONS = 4_000
"""Largest number in `{m,n}`."""
MAX_DEPTH = 50
"""Depth of nested groups."""
BoundaryKind: TypeAlias = Literal["b", "B", "^", "$"]

_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}


class Boundary(msgspec.Struct, frozen=True):
    """A condition on the characters before and after a place."""

    kind: BoundaryKind


class Concatenation(msgspec.Struct, frozen=True):
    """Nodes that match one after the other."""

    nodes: tuple[Node, ...]


class Alternatives(msgspec.Struct, frozen=True):
    """Nodes of which one matches."""

    nodes: tuple[Node, ...]


class RepeatedNode(msgspec.Struct, frozen=True):
    """A node that matches `least` to `most` times. `most` is None without a limit."""

    node: Node
    least: int
    most: int | None


Node: TypeAlias = CharacterSet | Boundary | Concatenation | Alternatives | RepeatedNode


def parse_pattern(pattern: str) -> Node:
    """Return the syntax tree of a pattern. Raises ConfigurationError, which names the place."""
    return _PatternParser(pattern).parse()


class _PatternParser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._ignores_case = pattern.startswith("(?i)")
        self._place = 4 if self._ignores_case else 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._alternatives()
        if self._place < len(self._pattern):
            raise self._error("a parenthesis is closed but was not opened")
        return node

    # -- structure ---------------------------------------------------------------------------------------

    def _alternatives(self) -> Node:
        nodes = [self._sequence()]
        while self._take("|"):
            nodes.append(self._sequence())
        return nodes[0] if len(nodes) == 1 else Alternatives(tuple(nodes))

    def _sequence(self) -> Node:
        nodes: list[Node] = []
        while self._place < len(self._pattern) and self._pattern[self._place] not in "|)":
            nodes.append(self._repeated())
        return nodes[0] if len(nodes) == 1 else Concatenation(tuple(nodes))

    def _repeated(self) -> Node:
        node = self._single()
        limits = self._limits()
        if limits is None:
            return node
        if isinstance(node, Boundary):
            raise self._error("a boundary cannot be repeated")
        if self._peek() in ("?", "+", "*"):
            raise self._error("lazy, possessive and double repetitions are not supported")
        return RepeatedNode(node, *limits)

    def _limits(self) -> tuple[int, int | None] | None:
        for mark, limits in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(mark):
                return limits
        if self._peek() != "{":
            return None
        end = self._pattern.find("}", self._place)
        least, comma, most = self._pattern[self._place + 1 : max(end, 0)].partition(",")
        if end < 0 or not (least or "0").isdecimal() or not (most or "0").isdecimal() or not (least or most):
            return None  # a brace as a character, as in Python
        self._place = end + 1
        lower = int(least or 0)
        upper = int(most) if most else (None if comma else lower)
        if max(lower, upper or 0) > MAX_REPETITIONS or (upper is not None and upper < lower):
            raise self._error(f"a repetition is {{m,n}} with m ≤ n ≤ {MAX_REPETITIONS:,}")
        return lower, upper

    def _group(self) -> Node:
        if self._take("?"):
            if self._take("P<"):
                self._place = self._pattern.find(">", self._place) + 1 or len(self._pattern)
            elif not self._take(":"):
                raise self._error("only the groups (…), (?:…) and (?P<name>…) are supported")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"groups are nested more than {MAX_DEPTH} deep")
        node = self._alternatives()
        self._depth -= 1
        if not self._take(")"):
            raise self._error("a parenthesis is not closed")
        return node

    # -- characters --------------------------------------------------------------------------------------

    def _single(self) -> Node:
        character = self._next()
        match character:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case ".":
                return ANY
            case "^" | "$":
                return Boundary(character)
            case "*" | "+" | "?":
                raise self._error("a repetition has nothing to repeat")
            case "\\":
                return self._escape()
            case _:
                return self._one(character)

    def _escape(self) -> Node:
        character = self._next()
        match character:
            case "b" | "B":
                return Boundary(character)
            case "A":
                return Boundary("^")
            case "Z":
                return Boundary("$")
            case "d" | "D" | "s" | "S" | "w" | "W":
                return CharacterSet(categories=character)
            case _:
                return self._one(self._escaped(character))

    def _escaped(self, character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        length = _HEX_LENGTHS.get(character)
        if length is not None:
            digits = self._pattern[self._place : self._place + length]
            self._place += length
            try:
                return chr(int(digits, 16))
            except (ValueError, OverflowError):
                raise self._error(f"\\{character} needs {length} hexadecimal digits") from None
        if character.isalnum():
            raise self._error(f"\\{character} is not supported")
        return character

    def _class(self) -> Node:
        is_negated = self._take("^")
        ranges: list[Range] = []
        categories = ""
        is_first = True
        while is_first or not self._take("]"):
            is_first = False
            first = self._member()
            if len(first) > 1:
                categories += first[1]
                continue
            last = first
            if self._peek() == "-" and self._pattern[self._place + 1 : self._place + 2] not in ("]", ""):
                self._place += 1
                last = self._member()
                if len(last) > 1 or last < first:
                    raise self._error("a range of characters has its bounds in the wrong order")
            ranges.append((first, last))
        return CharacterSet(tuple(ranges), categories, is_negated, self._ignores_case)

    def _member(self) -> str:
        """Return the next character of a character class, or a category such as `\\d`."""
        character = self._next("a class [ is not closed")
        if character != "\\":
            return character
        character = self._next()
        if character in "dDsSwW":
            return "\\" + character
        return "\b" if character == "b" else self._escaped(character)

    def _one(self, character: str) -> CharacterSet:
        return CharacterSet(((character, character),), ignores_case=self._ignores_case)

    # -- reading -----------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self._pattern[self._place : self._place + 1]

    def _next(self, missing: str = "the pattern ends too early") -> str:
        character = self._peek()
        if not character:
            raise self._error(missing)
        self._place += 1
        return character

    def _take(self, expected: str) -> bool:
        if not self._pattern.startswith(expected, self._place):
            return False
        self._place += len(expected)
        return True

    def _error(self, problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"the pattern {self._pattern!r} is wrong at character {self._place}, correct it: {problem}"
        )
