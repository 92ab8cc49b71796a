"""JSON text that is incomplete."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.partial_json import NOTHING, partial_value

pytestmark = pytest.mark.requirement("F1")

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", NOTHING),
        ("  ", NOTHING),
        ("{", {}),
        ('{"na', {}),
        ('{"name"', {}),
        ('{"name": ', {}),
        ('{"name": "', {"name": ""}),
        ('{"name": "Ad', {"name": "Ad"}),
        ('{"name": "A\\', {"name": "A"}),
        ('{"name": "A\\u00e', {"name": "A"}),
        ('{"name": "A\\ud83d', {"name": "A"}),
        ('{"name": "A\\ud83d\\ude0', {"name": "A"}),
        ('{"name": "A\\ud83d\\ude00', {"name": "A😀"}),
        ('{"name": "A\\\\', {"name": "A\\"}),
        ('{"n": 1', {}),
        ('{"n": 1,', {"n": 1}),
        ('{"n": 1}', {"n": 1}),
        ('{"n": tru', {}),
        ('{"n": true', {"n": True}),
        ('[1, [2, "x', [1, [2, "x"]]),
        ('"abc', "abc"),
        ("12", NOTHING),
        ("null", None),
        ('{"a": {"b": [', {"a": {"b": []}}),
        ('{"a": "}", "b": "]', {"a": "}", "b": "]"}),
        ("}", NOTHING),
        ('{"a" 1}', NOTHING),
        ("[" * 300, NOTHING),
    ],
)
def test_what_can_be_said_by_now(text: str, value: Any) -> None:
    assert partial_value(text) is value if value is NOTHING else partial_value(text) == value


@given(_VALUES, st.booleans(), st.data())
def test_every_beginning_has_a_value_that_the_whole_goes_on_from(
    value: Any, plain: bool, data: st.DataObject
) -> None:
    text = json.dumps({"v": value}, ensure_ascii=not plain)
    assert partial_value(text) == {"v": value}
    cut = data.draw(st.integers(1, len(text)))
    assert _begins(partial_value(text[:cut]), {"v": value})


def _begins(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and _begins(inner, whole[key]) for key, inner in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(
            _begins(inner, other) for inner, other in zip(part, whole[: len(part)], strict=True)
        )
    if isinstance(part, str):
        return isinstance(whole, str) and whole.startswith(part)
    return part == whole


@given(st.text(alphabet='{}[]",:\\u0dax1 tre\n', max_size=60))
def test_what_is_no_json_raises_nothing(text: str) -> None:
    partial_value(text)


@pytest.mark.parametrize("unit", ["[", '"\\', "{", '{"a":', "\\", '"', "1", ' "x" ', '["x",'])
def test_hostile_texts_cost_no_more_than_their_length(unit: str) -> None:
    def seconds(length: int) -> float:
        text = '["' + unit * (length // len(unit))
        began = time.process_time()
        partial_value(text)
        return time.process_time() - began

    short = min(seconds(20_000) for _ in range(3))
    long = min(seconds(320_000) for _ in range(3))
    assert long < max(short, 0.0005) * 16 * 4
