"""The wait that a provider asks for, on every wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.wires import WIRES
from turnstream.wires.shared.error_engine import retry_after

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:28:37 GMT"


@pytest.mark.requirement("D4")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"RETRY-AFTER-MS": "1500", "Retry-After": "2"}, 1.5),
        ({"Retry-After": LATER, "Date": DATE}, 37),
        ({"Retry-After": DATE, "Date": LATER}, 0),
        ({"Retry-After": LATER}, None),
        ({"Retry-After": "soon", "Date": DATE}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({}, None),
    ],
)
def test_what_headers_say(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.requirement("D4")
@pytest.mark.parametrize("wire", sorted(WIRES))
def test_every_wire_reads_a_date(wire: str) -> None:
    error = WIRES[wire].decode_error(429, {"Retry-After": LATER, "Date": DATE}, b"{}")
    assert error.retry_after == 37


@given(st.dictionaries(st.sampled_from(["Retry-After", "retry-after-ms", "Date"]), st.text(max_size=40)))
def test_whatever_they_say_is_a_wait_or_nothing(headers: dict[str, str]) -> None:
    seconds = retry_after(headers)
    assert seconds is None or 0 <= seconds < float("inf")
