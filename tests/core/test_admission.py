"""Values from outside become text that is Unicode, and JSON of a bounded depth."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import uuid
from collections import Counter, UserDict, deque, namedtuple
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.admission import (
    NESTING_LIMIT,
    InvalidJson,
    encodes_deeper,
    nests_deeper,
    plain_json,
    plain_request_json,
    repair_text,
)
from turnstream.core.blocks import Block
from turnstream.errors import InvalidRequest


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Place:
    name: str
    tags: set[str]


class City(pydantic.BaseModel):
    place: Place
    founded: dt.date


Pair = namedtuple("Pair", "left right")


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"a": value} if _ % 2 else [value]
    return value


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("plain", "plain"),
        ("grüße 🙂", "grüße 🙂"),
        ("half \ud83d", "half \ufffd"),
        ("\ude00 half", "\ufffd half"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\ufffd"),
    ],
)
def test_halves_are_joined_or_replaced(text: str, whole: str) -> None:
    assert repair_text(text) == whole
    assert plain_json({text: [text, {"k": (text,)}]}) == {whole: [whole, {"k": (whole,)}]}


@pytest.mark.fault(31)
def test_what_needs_no_change_is_the_same_object() -> None:
    value = {"a": [{"b": ("x", 1, None, True, 1.5)}], "ü": Block(0, "text", "é")}
    assert plain_json(value) is value


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (City(place=Place("Rome", {"old"}), founded=dt.date(2020, 1, 2)),
         {"place": {"name": "Rome", "tags": ["old"]}, "founded": "2020-01-02"}),
        ([Place("Ostia", set())], [{"name": "Ostia", "tags": []}]),
        ({"when": dt.datetime(2020, 1, 2, 3, tzinfo=dt.UTC)}, {"when": "2020-01-02T03:00:00Z"}),
        ((1, (2, frozenset([3]))), [1, [2, [3]]]),
        ([Decimal("1.50"), uuid.UUID(int=1)], ["1.50", "00000000-0000-0000-0000-000000000001"]),
        ({"path": PurePosixPath("/x/y")}, {"path": "/x/y"}),
        ({Colour.RED: Colour.RED, 3: Level.HIGH}, {"red": "red", "3": 3}),
        ({(1, 2): None, None: True, uuid.UUID(int=2): 1},
         {"1,2": None, "null": True, "00000000-0000-0000-0000-000000000002": 1}),
        ([b"\xff", bytearray(b"a"), memoryview(b"b")], ["/w==", "YQ==", "Yg=="]),
        ([deque([1]), range(2), UserDict(a=1), Counter("aab"), {}.keys()],
         [[1], [0, 1], {"a": 1}, {"a": 2, "b": 1}, []]),
        (Pair("\ud800", 2), ["\ufffd", 2]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_of_python_become_json(value: object, plain: object) -> None:
    assert msgspec.json.decode(msgspec.json.encode(plain_json(value))) == plain


@pytest.mark.fault(6, 31)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text("aé\ud83d\ude00", max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("a\ud83d\ude00", max_size=3), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_any_json_is_admitted_and_then_stays_as_it_is(value: Any) -> None:
    plain = plain_json(value)
    assert plain_json(plain) is plain
    text = json.dumps(plain, ensure_ascii=False)
    text.encode()
    assert json.loads(text) == json.loads(repair_text(json.dumps(value, ensure_ascii=False)))


@pytest.mark.fault(31)
@pytest.mark.parametrize("value", [object(), {"a": [complex(1)]}, iter([1]), City, ValueError("x")])
def test_what_is_no_json_is_named(value: object) -> None:
    with pytest.raises(InvalidJson, match="is not JSON"):
        plain_json(value)
    with pytest.raises(InvalidRequest, match=r"^the call holds .* is not JSON"):
        plain_request_json(value, "the call")


@pytest.mark.fault(6)
@pytest.mark.parametrize("make", [lambda value: value, lambda value: (value,)], ids=["json", "tuple"])
def test_the_limit_counts_the_outermost_level(make: Any) -> None:
    extra = 1 if make(1) == (1,) else 0
    fits, deep = make(nested(NESTING_LIMIT - extra)), make(nested(NESTING_LIMIT + 1 - extra))
    assert plain_json(fits) is fits
    for value in (deep, make(nested(300)), make(nested(100_000))):
        with pytest.raises(InvalidJson, match="deeper than 100"):
            plain_json(value)
    assert not nests_deeper(nested(NESTING_LIMIT))
    assert nests_deeper(nested(NESTING_LIMIT + 1))


@pytest.mark.fault(6)
def test_what_holds_itself_is_nested_too_deeply() -> None:
    endless: list[Any] = []
    endless.append({"a": endless})
    with pytest.raises(InvalidJson, match="deeper"):
        plain_json(endless)


@pytest.mark.fault(6)
def test_a_block_s_content_is_not_a_level_of_what_it_holds() -> None:
    block = Block(0, "tool_use", None, {"input": nested(NESTING_LIMIT)})
    assert plain_json(block) is block
    with pytest.raises(InvalidJson):
        plain_json(Block(0, "tool_use", None, {"input": nested(NESTING_LIMIT + 1)}))


@pytest.mark.fault(6)
def test_a_date_at_the_deepest_level_is_no_level() -> None:
    value: Any = dt.date(2020, 1, 2)
    for _ in range(NESTING_LIMIT):
        value = [value]
    assert not nests_deeper(plain_json(value))


@given(
    st.recursive(
        st.none() | st.text("[{a", max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("[{", max_size=2), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    st.integers(1, 6),
)
def test_brackets_decide_only_what_the_levels_would(value: Any, limit: int) -> None:
    encoded = json.dumps(value)
    assert encodes_deeper(encoded, value, limit) == nests_deeper(value, limit)
    assert encodes_deeper(encoded.encode(), value, limit) == nests_deeper(value, limit)
