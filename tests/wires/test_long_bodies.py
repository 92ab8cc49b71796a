"""Bodies of requests with long lists are encoded item by item, to the same bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from turnstream.wires.shared.lenient_json import encode_repaired

pytestmark = pytest.mark.fault(40)


@pytest.mark.parametrize("count", [0, 1, 100, 101, 300])
@pytest.mark.parametrize("item", [1, "é", {"a": [None, {"b": "\n"}]}, []])
def test_a_body_with_a_long_list_is_encoded_as_any_other(count: int, item: Any) -> None:
    bodies: list[Any] = [
        {"messages": [item] * count},
        {"a": 1, "é": [item] * count, "z": [2], "": {}},
        [item] * count,
    ]
    for body in bodies:
        assert encode_repaired(body) == msgspec.json.encode(body)


def test_a_lone_surrogate_in_a_long_list_is_mended() -> None:
    body = {"messages": ["a"] * 200 + ["\ud800"], "more": 1}
    assert encode_repaired(body) == msgspec.json.encode({"messages": ["a"] * 200 + ["\ufffd"], "more": 1})
