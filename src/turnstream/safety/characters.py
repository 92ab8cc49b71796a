"""Sets of characters that a pattern accepts at one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec

Range: TypeAlias = tuple[str, str]

CATEGORIES: Mapping[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "s": str.isspace,
    "w": lambda character: character.isalnum() or character == "_",
}
"""Tests of the classes `\\d`, `\\s` and `\\w`. A capital letter negates a class."""


def is_word(character: str) -> bool:
    """Return True for a character that `\\w` accepts."""
    return CATEGORIES["w"](character)


class CharacterSet(msgspec.Struct, frozen=True):
    """A set of characters.

    Attributes:
        ranges: First and last character of each range.
        categories: Letters of character classes: `d`, `D`, `s`, `S`, `w`, `W`.
        is_negated: True if the set holds all other characters.
        ignores_case: True if a character is in the set when its lower or upper case is.
    """

    ranges: tuple[Range, ...] = ()
    categories: str = ""
    is_negated: bool = False
    ignores_case: bool = False

    def accepts(self, character: str) -> bool:
        """Return True if `character` is in the set."""
        found = self._holds(character)
        if not found and self.ignores_case:
            found = self._holds(character.lower()) or self._holds(character.upper())
        return found != self.is_negated

    def _holds(self, character: str) -> bool:
        return any(first <= character <= last for first, last in self.ranges) or any(
            CATEGORIES[letter.lower()](character) != letter.isupper() for letter in self.categories
        )


ANY = CharacterSet(ranges=(("\0", "\t"), ("\v", "\U0010ffff")))
"""The characters that `.` accepts: all but the line feed."""
