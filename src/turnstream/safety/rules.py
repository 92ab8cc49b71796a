"""Rules of a redaction: what is replaced, and by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from turnstream.errors import ConfigurationError
from turnstream.safety.automaton import Automaton

Replacement: TypeAlias = str | Callable[[str], str]
Check: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class RedactionRule:
    """A rule that replaces the matches of a pattern.

    Args:
        name: Name of the rule.
        pattern: Pattern of what is replaced; see `safety.patterns`.
        replacement: Text, or a function of the match that returns the text. None: `[name]`.
        check: Function of a match. It returns False if the match must stay, for example because a checksum
            does not fit. None: all matches are replaced.
    """

    name: str
    pattern: str
    replacement: Replacement | None = None
    check: Check | None = None

    def replace(self, match: str) -> str:
        """Return the text in place of a match."""
        if self.replacement is None:
            return f"[{self.name}]"
        return self.replacement if isinstance(self.replacement, str) else self.replacement(match)


@dataclass(frozen=True)
class RedactionFilter:
    """Rules that apply together. Of several matches, the one that begins first counts, then the longest one,
    then that of the first rule. Raises ConfigurationError for an invalid pattern."""

    rules: tuple[RedactionRule, ...]

    def __post_init__(self) -> None:
        _ = self.automaton

    @cached_property
    def automaton(self) -> Automaton:
        """The automaton of the rules' patterns."""
        bounded = [
            number for number, rule in enumerate(self.rules) if rule.check or callable(rule.replacement)
        ]
        return Automaton([rule.pattern for rule in self.rules], bounded=bounded)


def has_luhn_checksum(match: str) -> bool:
    """Return True if the digits of a card number fit their checksum (ISO/IEC 7812-1)."""
    digits = [int(character) for character in reversed(match) if character.isdecimal()]
    doubled = (divmod(2 * digit, 10) for digit in digits[1::2])
    total = sum(digits[::2]) + sum(tens + ones for tens, ones in doubled)
    return total % 10 == 0 and any(digits)


def has_iban_checksum(match: str) -> bool:
    """Return True if an International Bank Account Number fits its checksum (ISO 13616, modulo 97)."""
    number = "".join(match.split()).upper()
    if not (number.isascii() and number.isalnum()):
        return False
    moved = number[4:] + number[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def has_phone_length(match: str) -> bool:
    """Return True if a telephone number has 8 to 15 digits (ITU-T E.164 allows 15)."""
    return 8 <= sum(character.isdecimal() for character in match) <= 15


_API_KEYS = (
    r"sk-[A-Za-z0-9_-]{16}[A-Za-z0-9_-]*",  # OpenAI, Anthropic and others
    r"(AKIA|ASIA)[A-Z0-9]{16}",  # AWS
    r"(gh[pousr]_|github_pat_)[A-Za-z0-9_]{20}[A-Za-z0-9_]*",
    r"glpat-[A-Za-z0-9_-]{20}[A-Za-z0-9_-]*",  # GitLab
    r"xox[abeoprs]-[A-Za-z0-9-]{10}[A-Za-z0-9-]*",  # Slack
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"hf_[A-Za-z0-9]{20}[A-Za-z0-9]*",  # Hugging Face
    r"[prs]k_(live|test)_[A-Za-z0-9]{10}[A-Za-z0-9]*",  # Stripe
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_-]{16}[A-Za-z0-9_-]*",
    r"eyJ[A-Za-z0-9_-]{8,800}\.eyJ[A-Za-z0-9_-]{8,3000}\.[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*",  # JSON Web Token
)

BUILT_IN_RULES: Mapping[str, RedactionRule] = {
    rule.name: rule
    for rule in (
        RedactionRule(
            "private_key",
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----([A-Za-z0-9+/=:,\s]|-[A-Za-z0-9])*"
            r"(-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?",
        ),
        RedactionRule("api_key", r"\b(" + "|".join(_API_KEYS) + ")"),
        RedactionRule("email", r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}\b"),
        RedactionRule("iban", r"\b[A-Z]{2}[0-9]{2}( ?[A-Za-z0-9]){11,30}\b", check=has_iban_checksum),
        RedactionRule("card", r"\b[0-9]([ -]?[0-9]){12,18}\b", check=has_luhn_checksum),
        RedactionRule(
            "phone",
            r"(\+|\b00)[0-9]([ ()./-]{0,2}[0-9]){6,14}\b"  # international
            r"|\(?\b[0-9]{3}\)?[ .-][0-9]{3}[ .-][0-9]{4}\b",  # North America
            check=has_phone_length,
        ),
    )
}
"""Rules that are built in, by name."""


def built_in_rule(name: str) -> RedactionRule:
    """Return a built-in rule. Raises ConfigurationError for an unknown name."""
    rule = BUILT_IN_RULES.get(name)
    if rule is None:
        raise ConfigurationError(
            f"there is no built-in redaction rule {name!r}; there are: {', '.join(BUILT_IN_RULES)}"
        )
    return rule
