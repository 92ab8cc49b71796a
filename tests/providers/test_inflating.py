"""Compressed answers: any coding that servers use, cut anywhere."""

from __future__ import annotations

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.errors import ProviderError, StreamIncomplete
from turnstream.providers.inflating import InflatingDecoder, inflated
from turnstream.wires import WIRES

BODY = (
    b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}\n\n'
    b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{"content":" there"}}]}\n\n'
    b'data: {"id":"c","model":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)
CODED = [
    ("gzip", gzip.compress(BODY)),
    ("x-gzip", gzip.compress(BODY)),
    ("gzip", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
    ("deflate", zlib.compress(BODY)),
    ("deflate", RAW.compress(BODY) + RAW.flush()),
    ("identity", BODY),
]


def decoded(coding: str, pieces: list[bytes]) -> list[object]:
    decoder = InflatingDecoder(WIRES["openai-chat"].decoder(), coding)
    return [*(event for piece in pieces for event in decoder.feed(piece)), *decoder.close()]


@pytest.mark.parametrize(("coding", "data"), CODED)
@given(cuts=st.sets(st.integers(1, 400), max_size=6))
def test_any_cut_gives_the_same_events(coding: str, data: bytes, cuts: set[int]) -> None:
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[start:end] for start, end in pairwise(places)]
    assert decoded(coding, pieces) == decoded("identity", [BODY])


@pytest.mark.requirement("D6")
@pytest.mark.parametrize(("coding", "data"), CODED)
def test_a_cut_body_is_not_whole(coding: str, data: bytes) -> None:
    with pytest.raises(StreamIncomplete):
        decoded(coding, [data[: len(data) // 2]])


@given(st.binary(min_size=1, max_size=200))
def test_whatever_comes_is_an_answer_or_an_error_of_ours(data: bytes) -> None:
    for coding in ("gzip", "deflate"):
        try:
            decoded(coding, [data])
        except ProviderError:
            continue
        inflated(data, coding, 10)


def test_what_is_not_asked_for_is_said() -> None:
    with pytest.raises(StreamIncomplete, match="'br'"):
        InflatingDecoder(WIRES["openai-chat"].decoder(), "br")


@pytest.mark.requirement("E4")
def test_a_few_bytes_that_stand_for_very_many_are_refused_in_little_memory() -> None:
    bomb = gzip.compress(b"data: " + b"x" * 50_000_000)
    decoder = InflatingDecoder(WIRES["openai-chat"].decoder(event_limit=100_000), "gzip")
    with pytest.raises(ProviderError, match="more than 100000 bytes"):
        decoder.feed(bomb)
    assert len(inflated(bomb, "gzip", 1000)) == 1000


@pytest.mark.requirement("E6")
def test_events_before_a_fault_are_given_first() -> None:
    packed = gzip.compress(BODY.replace(b"\n\n", b"\n\ndata: {oh\n\n", 1))
    decoder = InflatingDecoder(WIRES["openai-chat"].decoder(), "gzip")
    assert decoder.feed(packed)
    with pytest.raises(ProviderError, match="JSON"):
        decoder.feed(b"")
    with pytest.raises(ProviderError, match="JSON"):
        decoder.close()
