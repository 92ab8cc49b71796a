"""Tokens of a call, split by price, and the prices of a model."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple, cast

from turnstream.core.usage import Usage

_ZERO = Decimal(0)
_MILLION = Decimal(1_000_000)
INPUT_EXCLUDES_CACHE = frozenset({"anthropic", "bedrock"})
"""Wires whose input tokens exclude cache reads and writes. On all other wires they include them."""


class Tokens(NamedTuple):
    """Usage in parts that do not overlap, each with one price."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int = 0
    """Tokens of thinking, not in `output`. The output price applies if the model has no price for them."""
    cache_write_long: int = 0
    """Tokens written to a cache for an hour, not in `cache_write`."""

    @property
    def all_input(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.cache_write_long


class Tier(NamedTuple):
    """A price per million tokens. It applies to all tokens of a call whose input has more than `above`."""

    above: int
    price: Decimal


class Rate(NamedTuple):
    """A price per million tokens, and the tiers that replace it for long inputs, the highest first."""

    base: Decimal
    tiers: tuple[Tier, ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        for tier in self.tiers:
            if input_tokens > tier.above:
                return tier.price
        return self.base


class Rates(NamedTuple):
    """Prices of one model.

    If a price is None, another price applies: `input` for reads and writes of the cache, `cache_write` for
    writes of the longer cache, and `output` for reasoning.
    """

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_long: Rate | None = None
    reasoning: Rate | None = None
    per_call: Decimal = _ZERO

    def price(self, tokens: Tokens) -> Decimal:
        size = tokens.all_input
        write = self.cache_write or self.input
        parts = (
            (tokens.input, self.input),
            (tokens.cache_read, self.cache_read or self.input),
            (tokens.cache_write, write),
            (tokens.cache_write_long, self.cache_write_long or write),
            (tokens.output, self.output),
            (tokens.reasoning, self.reasoning or self.output),
        )
        return (
            self.per_call + sum((rate.at(size) * count for count, rate in parts if count), _ZERO) / _MILLION
        )


def split_tokens(wire: str, usage: Usage, raw: Mapping[str, Any] | None = None) -> Tokens:
    """Return usage as `wire` reports it, in parts that do not overlap.

    Vendors of chat completions differ. Some report more cached tokens than prompt tokens: then the whole
    prompt counts as cached. Some count thinking outside the completion tokens, which their total shows.
    """
    given = usage.input_tokens or 0
    read = usage.cache_read_tokens or 0
    written = usage.cache_write_tokens or 0
    output = usage.output_tokens or 0
    thinking = usage.reasoning_tokens or 0
    if wire in INPUT_EXCLUDES_CACHE:
        long = min(_count(raw, "cache_creation", "ephemeral_1h_input_tokens"), written)
        return _with_thinking(Tokens(given, read, written - long, output, 0, long), thinking)
    read = min(read, given)
    written = min(written, given - read)
    tokens = Tokens(given - read - written, read, written, output)
    total = _count(raw, "total_tokens")
    if thinking > output or (thinking and total == given + output + thinking):
        return tokens._replace(reasoning=thinking)
    return _with_thinking(tokens, thinking)


def _with_thinking(tokens: Tokens, thinking: int) -> Tokens:
    """Take thinking out of the output: a few models have another price for it."""
    inside = min(thinking, tokens.output)
    return tokens._replace(output=tokens.output - inside, reasoning=inside)


def _count(raw: Mapping[str, Any] | None, *path: str) -> int:
    value: Any = raw
    for name in path:
        value = cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else None
    return value if type(value) is int and value > 0 else 0
