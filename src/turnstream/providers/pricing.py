"""Costs of model calls in US dollars.

Prices come from the settings, then from the installed `genai-prices` library. turnstream never lets it fetch
newer prices. The cost of a model without a price is unknown. It is not guessed.

The library is large (measured: 0.1 s to import, 0.4 s if it is not compiled yet, and 8 MB), so a thread
imports it, and only when a model needs it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from turnstream.config import PriceSettings
from turnstream.core.usage import Usage
from turnstream.providers.capabilities import most_exact_first
from turnstream.providers.rates import Rate, Rates, Tier, split_tokens

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

logger = logging.getLogger(__name__)

PLACES = Decimal("0.000001")
LARGEST_CACHE = 1000
"""Models whose prices are cached."""

_ZERO = Decimal(0)


class Cost(NamedTuple):
    """Cost of a call."""

    amount: Decimal | None
    """US dollars, exact. None if the model's price is unknown."""
    known: bool = True
    """True if the model's price is known."""
    estimated: bool = False
    """True if the usage is an estimate."""

    @property
    def text(self) -> str | None:
        """Amount with six decimal places, as it is stored and shown."""
        return None if self.amount is None else format_amount(self.amount)


def format_amount(amount: Decimal) -> str:
    """Return US dollars with six decimal places, half rounded up, never in scientific notation."""
    return f"{amount.quantize(PLACES, ROUND_HALF_UP):f}"


class _PriceList(Protocol):
    """Prices of one model. They may depend on the time of the call."""

    def rates(self, now: datetime) -> Rates: ...


class _FixedPrices(NamedTuple):
    """Prices that do not depend on time."""

    always: Rates

    def rates(self, now: datetime) -> Rates:  # noqa: ARG002 - the seam's
        return self.always


_FREE = _FixedPrices(Rates(Rate(_ZERO), Rate(_ZERO)))


class _Library(NamedTuple):
    """Prices of the library that depend on the date or the time of day."""

    model: ModelInfo

    def rates(self, now: datetime) -> Rates:
        rates = _rates_of(self.model.get_prices(now))
        return rates if rates is not None else _FREE.always


class Pricing:
    """Prices by model.

    Args:
        prices: Prices of the settings by `provider/model`, where `*` matches any characters. The most exact
            match wins.
        base_urls: Base URLs by provider. They identify the vendor whose prices apply, whatever the provider's
            name is.
        free: Providers that cost nothing unless the settings give a price.
    """

    def __init__(
        self,
        prices: Mapping[str, PriceSettings] | None = None,
        *,
        base_urls: Mapping[str, str] | None = None,
        free: frozenset[str] = frozenset({"sim"}),
    ) -> None:
        self._own = [(pattern, _own_rates(price)) for pattern, price in most_exact_first(prices or {})]
        self._base_urls = dict(base_urls or {})
        self._free = free
        self._found: dict[tuple[str, str], _PriceList | None] = {}
        self._loading: asyncio.Future[None] | None = None

    def prepare(self, provider: str, model: str) -> None:
        """Start to load the price of a model, so that it is ready when its call ends. Does not block.

        A thread imports the library if it is needed. Call this on the event loop.
        """
        if self._loading is not None or not self._needs_library(provider, model):
            return
        self._loading = asyncio.get_running_loop().run_in_executor(None, _load_library)

    async def ready(self, seconds: float = 5.0) -> None:
        """Wait at most `seconds` until the work of `prepare` is done. `cost` is quick from then on."""
        if self._loading is not None and not self._loading.done():
            await asyncio.wait([self._loading], timeout=seconds)

    async def load(self, models: Iterable[tuple[str, str]]) -> None:
        """Load the prices of models, each with its provider's name first."""
        for provider, model in models:
            self.prepare(provider, model)
        await self.ready()

    @property
    def loading(self) -> bool:
        """True while the library is being imported. `cost` would block until then."""
        return self._loading is not None and not self._loading.done()

    def cost(
        self,
        provider: str,
        model: str,
        wire: str,
        usage: Usage,
        *,
        raw: Mapping[str, Any] | None = None,
    ) -> Cost | None:
        """Return the cost of a call, or None if its usage is unknown.

        Args:
            provider: The provider's name in the settings.
            model: The model's name at the provider.
            wire: Wire of the call. It decides if the input tokens include cached ones.
            usage: Usage of the call.
            raw: The provider's own usage object, for details that `usage` lacks: tokens that are cached for
                an hour, and thinking outside the output.
        """
        if usage.input_tokens is None and usage.output_tokens is None:
            return None
        prices = self._find(provider, model)
        if prices is None:
            return Cost(None, known=False)
        return Cost(prices.rates(datetime.now(UTC)).price(split_tokens(wire, usage, raw)))

    def _needs_library(self, provider: str, model: str) -> bool:
        if (provider, model) in self._found or provider in self._free:
            return False
        return self._own_price(f"{provider}/{model}".lower()) is None

    def _find(self, provider: str, model: str) -> _PriceList | None:
        key = (provider, model)
        if key in self._found:
            return self._found[key]
        found = self._own_price(f"{provider}/{model}".lower())
        if found is None and provider in self._free:
            found = _FREE
        elif found is None:
            found = _library_price(provider, model, self._base_urls.get(provider))
        if len(self._found) >= LARGEST_CACHE:
            self._found.clear()
        self._found[key] = found
        return found

    def _own_price(self, name: str) -> _PriceList | None:
        return next((rates for pattern, rates in self._own if pattern.fullmatch(name)), None)


def _own_rates(price: PriceSettings) -> _FixedPrices:
    read, write = price.cache_read_per_million, price.cache_write_per_million
    return _FixedPrices(
        Rates(
            Rate(price.input_per_million),
            Rate(price.output_per_million),
            None if read is None else Rate(read),
            None if write is None else Rate(write),
        )
    )


# -- the library ---------------------------------------------------------------------------------------------


def _load_library() -> None:
    from genai_prices import data_snapshot  # noqa: PLC0415 - takes 0.1 s, which only real models are worth

    data_snapshot.get_snapshot()


def _library_price(provider: str, model: str, base_url: str | None) -> _PriceList | None:
    """Return the library's prices of a model, or None.

    The vendor is the one whose API is at `base_url`, or else the one with exactly the name `provider`.
    Similar names do not count.
    """
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - as above

    snapshot = get_snapshot()
    matches = (known for known in snapshot.providers if base_url and re.match(known.api_pattern, base_url))
    found = next(matches, None) or next((known for known in snapshot.providers if known.id == provider), None)
    info = found.find_model(model, all_providers=snapshot.providers) if found is not None else None
    if info is None or _rates_of(info.get_prices(datetime.now(UTC))) is None:
        logger.info("no price is known for %s/%s: its cost is not reported", provider, model)
        return None
    if isinstance(info.prices, list):
        return _Library(info)
    rates = _rates_of(info.prices)
    return None if rates is None else _FixedPrices(rates)


def _rates_of(price: ModelPrice) -> Rates | None:
    """Return the rates, or None for a model that is not paid by tokens."""
    input_rate, output_rate = _rate(price.input_mtok), _rate(price.output_mtok)
    if input_rate is None and output_rate is None:
        return None
    per_thousand_calls = _rate(price.requests_kcount)
    return Rates(
        input_rate or Rate(_ZERO),
        output_rate or Rate(_ZERO),
        _rate(price.cache_read_mtok),
        _rate(price.cache_write_mtok),
        _rate(price.cache_write_1h_mtok),
        _rate(price.output_reasoning_mtok),
        _ZERO if per_thousand_calls is None else per_thousand_calls.base / 1000,
    )


def _rate(price: Decimal | TieredPrices | None) -> Rate | None:
    if price is None or isinstance(price, Decimal):
        return None if price is None else Rate(price)
    highest_first = sorted(price.tiers, key=lambda tier: tier.start, reverse=True)
    return Rate(price.base, tuple(Tier(tier.start, tier.price) for tier in highest_first))


def total(costs: list[Cost | None]) -> Cost | None:
    """Return the cost of all steps of a turn: unknown if any of them is, None if no usage is known."""
    said = [cost for cost in costs if cost is not None]
    if not said:
        return None
    if len(said) == 1 and said[0].known is (said[0].amount is not None):
        return said[0]
    estimated = any(cost.estimated for cost in said)
    if not all(cost.known for cost in said):
        return Cost(None, known=False, estimated=estimated)
    return Cost(sum((cost.amount or _ZERO for cost in said), _ZERO), estimated=estimated)
