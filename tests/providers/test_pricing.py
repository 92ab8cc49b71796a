"""Costs of calls: the sums, the price that applies, and no guesses (requirement I2)."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.config import PriceSettings, load_settings
from turnstream.core.usage import Usage
from turnstream.errors import ConfigurationError
from turnstream.providers.pricing import Cost, Pricing, format_amount, total
from turnstream.providers.rates import Rate, Rates, Tier, Tokens, split_tokens

THREE_AND_FIFTEEN = PriceSettings(input_per_million=Decimal(3), output_per_million=Decimal(15))
WITH_CACHE = PriceSettings(
    input_per_million=Decimal(3),
    output_per_million=Decimal(15),
    cache_read_per_million=Decimal("0.3"),
    cache_write_per_million=Decimal("3.75"),
)
COUNTS = st.integers(0, 10**9)


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("a price was asked for over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def text_of(cost: Cost | None) -> str | None:
    assert cost is not None
    return cost.text


@pytest.mark.requirement("I2")
@pytest.mark.parametrize(("output", "expected"), [(12, "0.000315"), (234, "0.003645")])
def test_the_documented_sums(output: int, expected: str) -> None:
    pricing = Pricing({"acme/one": THREE_AND_FIFTEEN})
    assert text_of(pricing.cost("acme", "one", "openai-chat", Usage(45, output))) == expected


@pytest.mark.requirement("I2")
def test_cached_tokens_have_their_own_price_on_each_wire() -> None:
    pricing = Pricing({"acme/*": WITH_CACHE})
    # Beside the input, as Anthropic counts: 100 × 3 + 1000 × 0.3 + 200 × 3.75 + 10 × 15 per million.
    beside = Usage(100, 10, cache_read_tokens=1000, cache_write_tokens=200)
    assert text_of(pricing.cost("acme", "m", "anthropic", beside)) == "0.001500"
    # The same call, as chat completions count it: 1,300 prompted, 1,000 of them cached, 200 written.
    within = Usage(1300, 10, cache_read_tokens=1000, cache_write_tokens=200)
    assert text_of(pricing.cost("acme", "m", "openai-chat", within)) == "0.001500"


@pytest.mark.requirement("I2")
def test_without_a_price_of_their_own_cached_tokens_cost_what_others_do() -> None:
    pricing = Pricing({"acme/*": THREE_AND_FIFTEEN})
    usage = Usage(100, 0, cache_read_tokens=100, cache_write_tokens=100)
    assert text_of(pricing.cost("acme", "m", "anthropic", usage)) == "0.000900"
    assert text_of(pricing.cost("acme", "m", "ollama", Usage(100, 0, 100))) == "0.000300"


@pytest.mark.requirement("I2")
def test_what_vendors_of_chat_completions_count_otherwise() -> None:
    more_cached_than_prompted = Usage(377, 69, cache_read_tokens=515)
    assert split_tokens("openai-chat", more_cached_than_prompted) == Tokens(0, 377, 0, 69)
    thinking_beside = Usage(12, 2, cache_read_tokens=11, reasoning_tokens=340)
    assert split_tokens("openai-chat", thinking_beside) == Tokens(1, 11, 0, 2, 340)
    told_by_the_total = Usage(10, 50, reasoning_tokens=40)
    raw = {"prompt_tokens": 10, "completion_tokens": 50, "total_tokens": 100}
    assert split_tokens("openai-chat", told_by_the_total, raw) == Tokens(10, 0, 0, 50, 40)
    assert split_tokens("openai-chat", told_by_the_total) == Tokens(10, 0, 0, 10, 40)


@pytest.mark.requirement("I2")
@pytest.mark.usefixtures("_no_network")
def test_what_is_cached_for_an_hour_costs_more_where_the_list_says_so() -> None:
    raw = {"cache_creation": {"ephemeral_5m_input_tokens": 600, "ephemeral_1h_input_tokens": 400}}
    usage = Usage(0, 0, cache_write_tokens=1000)
    assert split_tokens("anthropic", usage, raw) == Tokens(0, 0, 600, 0, 0, 400)
    pricing = Pricing()
    short = pricing.cost("anthropic", "claude-sonnet-4-5", "anthropic", usage)
    long = pricing.cost("anthropic", "claude-sonnet-4-5", "anthropic", usage, raw=raw)
    assert short is not None
    assert long is not None
    assert (short.text, long.text) == ("0.003750", "0.004650")


@given(given_tokens=COUNTS, output=COUNTS, read=COUNTS, written=COUNTS, thinking=COUNTS)
def test_parts_never_exceed_what_was_counted(
    given_tokens: int, output: int, read: int, written: int, thinking: int
) -> None:
    usage = Usage(given_tokens, output, read, written, thinking)
    within = split_tokens("openai-chat", usage)
    assert within.all_input == given_tokens
    beside = split_tokens("anthropic", usage)
    assert beside.all_input == given_tokens + read + written
    assert beside.output + beside.reasoning == output
    assert min(*within, *beside) >= 0


@given(COUNTS, COUNTS)
def test_the_same_prices_agree_with_the_price_list_itself(given_tokens: int, output: int) -> None:
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import Usage as ListedUsage

    listed = get_snapshot().calc(
        ListedUsage(input_tokens=given_tokens, output_tokens=output, cache_read_tokens=given_tokens // 2),
        "claude-haiku-5-5",
        "anthropic",
        None,
        None,
    )
    usage = Usage(given_tokens, output, cache_read_tokens=given_tokens // 2)
    cost = Pricing().cost("anthropic", "claude-haiku-5-5", "openai-chat", usage)
    assert cost is not None
    assert cost.amount == listed.total_price


@pytest.mark.requirement("I2")
@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("anthropic", "claude-of-next-year"),
        ("nobody", "gpt-4o"),
        ("my-anthropic-like-server", "claude-sonnet-4-5"),
    ],
)
def test_what_is_not_known_is_flagged_and_never_guessed(provider: str, model: str) -> None:
    cost = Pricing().cost(provider, model, "openai-chat", Usage(1000, 1000))
    assert cost == Cost(None, known=False)
    assert cost.text is None


@pytest.mark.requirement("I2")
@pytest.mark.usefixtures("_no_network")
def test_the_address_tells_whose_prices_hold_whatever_the_provider_was_named() -> None:
    pricing = Pricing(base_urls={"work": "https://api.anthropic.com", "local": "http://127.0.0.1:1/v1"})
    usage = Usage(1_000_000, 0)
    assert (
        text_of(pricing.cost("work", "claude-sonnet-4-5", "anthropic", usage)) == "6.000000"
    )  # a long input
    assert pricing.cost("local", "claude-sonnet-4-5", "anthropic", usage) == Cost(None, known=False)


@pytest.mark.requirement("I2")
@pytest.mark.usefixtures("_no_network")
def test_prices_of_the_user_win_and_the_most_exact_of_them() -> None:
    def flat(price: int) -> PriceSettings:
        return PriceSettings(input_per_million=Decimal(price), output_per_million=Decimal(0))

    pricing = Pricing(
        {
            "anthropic/*": flat(1),
            "anthropic/claude-*": flat(2),
            "anthropic/claude-sonnet-4-5*": flat(3),
            "anthropic/claude-sonnet-4-5": flat(4),
            "sim/demo": flat(5),
        }
    )

    def price(name: str) -> str | None:
        provider, _, model = name.partition("/")
        return text_of(pricing.cost(provider, model, "anthropic", Usage(1_000_000, 0)))

    assert price("anthropic/claude-sonnet-4-5") == "4.000000"
    assert price("anthropic/claude-sonnet-4-5-20250929") == "3.000000"
    assert price("anthropic/Claude-Opus") == "2.000000"
    assert price("anthropic/other") == "1.000000"
    assert price("sim/demo") == "5.000000"


@pytest.mark.requirement("I2")
def test_the_simulator_costs_nothing_unless_it_is_given_a_price() -> None:
    usage = Usage(1000, 1000)
    assert Pricing().cost("sim", "demo", "anthropic", usage) == Cost(Decimal(0))
    priced = Pricing({"sim/*": THREE_AND_FIFTEEN})
    assert text_of(priced.cost("sim", "demo", "anthropic", usage)) == "0.018000"


def test_no_usage_no_cost() -> None:
    assert Pricing({"a/b": THREE_AND_FIFTEEN}).cost("a", "b", "anthropic", Usage()) is None


def test_a_price_for_long_inputs_holds_for_all_tokens() -> None:
    rates = Rates(Rate(Decimal(1), (Tier(200, Decimal(2)), Tier(100, Decimal("1.5")))), Rate(Decimal(10)))
    assert [rates.price(Tokens(size, 0, 0, 0)) * 1_000_000 for size in (100, 101, 200, 201)] == [
        100,
        Decimal("151.5"),
        300,
        402,
    ]


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("0", "0.000000"), ("0.0000005", "0.000001"), ("1E-9", "0.000000"), ("123456.7", "123456.700000")],
)
def test_amounts_have_six_places_and_no_exponent(amount: str, expected: str) -> None:
    assert format_amount(Decimal(amount)) == expected


def test_a_sum_is_exact_and_unknown_as_soon_as_a_part_is() -> None:
    third = Cost(Decimal("0.0000004"))
    assert total([third, third, None]) == Cost(Decimal("0.0000008"))
    assert total([third, Cost(None, known=False), third._replace(estimated=True)]) == Cost(
        None, known=False, estimated=True
    )
    assert total([None]) is None
    assert total([]) is None


@pytest.mark.requirement("I2")
def test_prices_come_from_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "turnstream.toml"
    file.write_text('[prices."acme/*"]\ninput_per_million = 0.1\noutput_per_million = 15\n', encoding="utf-8")
    prices = load_settings(file, environ={}).prices
    assert prices["acme/*"].input_per_million == Decimal("0.1")
    assert text_of(Pricing(prices).cost("acme", "m", "ollama", Usage(3, 0))) == "0.000000"
    assert Pricing(prices).cost("acme", "m", "ollama", Usage(3, 1)) == Cost(Decimal("0.0000153"))
    for line in ("input_per_million = -1", "input_per_million = nan", "per_million = 1"):
        file.write_text(f'[prices."acme/m"]\n{line}\noutput_per_million = 1\n', encoding="utf-8")
        with pytest.raises(ConfigurationError, match="prices"):
            load_settings(file, environ={})


async def test_the_price_list_is_read_beside_the_event_loop() -> None:
    pricing = Pricing({"acme/*": THREE_AND_FIFTEEN})
    pricing.prepare("acme", "one")
    pricing.prepare("sim", "demo")
    assert not pricing.loading
    pricing.prepare("anthropic", "claude-sonnet-4-5")
    async with asyncio.timeout(20):
        await pricing.ready(seconds=20)
    assert not pricing.loading
    pricing.prepare("anthropic", "claude-sonnet-4-5")


def test_the_price_list_is_imported_only_for_a_model_that_needs_it() -> None:
    program = """
import sys
from turnstream.config import PriceSettings
from turnstream.core.usage import Usage
from turnstream.providers.pricing import Pricing
pricing = Pricing({"acme/*": PriceSettings(input_per_million=1, output_per_million=1)})
pricing.cost("acme", "one", "anthropic", Usage(1, 1))
pricing.cost("sim", "demo", "anthropic", Usage(1, 1))
assert "genai_prices" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
