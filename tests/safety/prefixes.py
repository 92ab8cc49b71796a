"""The definition of a live partial match: the text is the beginning of a text that a pattern matches.

The pattern is rewritten, from Python's own parse of it, to one that matches every beginning of its matches.
"""

from __future__ import annotations

import re
from functools import cache
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any


def is_live(pattern: str, text: str, begin: int) -> bool:
    """Return True if the text from `begin` on may become a match, with more text or without."""
    return _beginnings(pattern).fullmatch(text, begin) is not None


@cache
def _beginnings(pattern: str) -> re.Pattern[str]:
    return re.compile(_begun(list(parser.parse(pattern))))


def _begun(items: list[tuple[Any, Any]]) -> str:
    """Return the pattern of the beginnings of a sequence."""
    if not items:
        return ""
    first, rest = items[0], items[1:]
    more = f"{_whole(first)}{_begun(rest)}"
    return f"(?:{more}|{_begun_item(first)})"


def _begun_item(item: tuple[Any, Any]) -> str:
    code, value = item
    match str(code):
        case "MAX_REPEAT":
            _, most, inner = value
            times = "*" if most == parser.MAXREPEAT else f"{{0,{most - 1}}}"
            return f"(?:{_sequence(inner)}){times}{_begun(list(inner))}"
        case "SUBPATTERN":
            return _begun(list(value[3]))
        case "BRANCH":
            return "(?:" + "|".join(_begun(list(branch)) for branch in value[1]) + ")"
        case _:
            return ""  # nothing of a character, and a position, is there or not


def _sequence(items: Any) -> str:
    return "".join(_whole(item) for item in items)


def _whole(item: tuple[Any, Any]) -> str:
    code, value = item
    match str(code):
        case "LITERAL":
            return re.escape(chr(value))
        case "NOT_LITERAL":
            return f"[^{re.escape(chr(value))}]"
        case "ANY":
            return "."
        case "IN":
            return "[" + "".join(_member(member) for member in value) + "]"
        case "AT":
            # At the end of the text so far, the next character may satisfy it.
            return {"AT_BOUNDARY": r"(?:\b|\Z)", "AT_NON_BOUNDARY": r"(?:\B|\Z)"}[str(value)]
        case "MAX_REPEAT":
            least, most, inner = value
            times = f"{{{least},{'' if most == parser.MAXREPEAT else most}}}"
            return f"(?:{_sequence(inner)}){times}"
        case "SUBPATTERN":
            return f"(?:{_sequence(value[3])})"
        case "BRANCH":
            return "(?:" + "|".join(_sequence(branch) for branch in value[1]) + ")"
        case _:
            raise AssertionError(f"{code} is not in a built-in rule")


def _member(member: tuple[Any, Any]) -> str:
    code, value = member
    match str(code):
        case "LITERAL":
            return re.escape(chr(value))
        case "RANGE":
            return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        case "NEGATE":
            return "^"
        case "CATEGORY":
            return {"CATEGORY_SPACE": r"\s", "CATEGORY_DIGIT": r"\d", "CATEGORY_WORD": r"\w"}[str(value)]
        case _:
            raise AssertionError(f"{code} is not in a built-in rule")
