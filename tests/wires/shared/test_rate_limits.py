"""Headers of rate limits in the errors of refused calls."""

from __future__ import annotations

import pytest

from turnstream.wires import WIRES


@pytest.mark.requirement("N9")
@pytest.mark.parametrize(
    "name", ["x-ratelimit-remaining-requests", "anthropic-ratelimit-tokens-reset", "X-RateLimit-Limit-Tokens"]
)
@pytest.mark.parametrize("wire", WIRES)
def test_an_error_has_the_rate_limits_of_its_answer(wire: str, name: str) -> None:
    error = WIRES[wire].decode_error(429, {name: "7", "retry-after": "3", "server": "x"}, b"{}")
    assert error.rate_limits == {name.lower(): "7"}
