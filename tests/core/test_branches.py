"""The tree of a chat's turns."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.branches import Branches, Node

pytestmark = pytest.mark.requirement("A7")

#   a ─ b ─┬─ c ─ d
#          └─ e ─┬─ f
#                └─ g
TREE = Branches(
    Node(turn_id, previous)
    for turn_id, previous in [
        ("a", None),
        ("b", "a"),
        ("c", "b"),
        ("d", "c"),
        ("e", "b"),
        ("f", "e"),
        ("g", "e"),
    ]
)


@pytest.mark.parametrize(
    ("through", "path"),
    [(None, "abeg"), ("d", "abcd"), ("c", "abcd"), ("e", "abeg"), ("f", "abef"), ("gone", "abeg")],
)
def test_a_path_goes_through_a_turn_and_on_by_the_newest(through: str | None, path: str) -> None:
    assert "".join(TREE.path(through)) == path


def test_siblings_follow_the_same_turn() -> None:
    assert TREE.siblings("c") == ["c", "e"]
    assert TREE.siblings("a") == ["a"]
    assert TREE.siblings("unknown") == []
    assert Branches([]).path(None) == []


@given(st.lists(st.integers(0, 1000), max_size=60), st.integers(0, 60))
def test_a_path_begins_at_the_beginning_and_ends_at_an_end(choices: list[int], through: int) -> None:
    nodes = [
        Node(str(place), None if choice % (place + 1) == place else str(choice % (place + 1)))
        for place, choice in enumerate(choices)
    ]
    tree = Branches(nodes)
    path = tree.path(str(through))
    previous = dict(nodes)
    assert all(previous[later] == earlier for earlier, later in pairwise(path))
    if nodes:
        assert previous[path[0]] is None
        assert path[-1] not in previous.values()
        if through < len(nodes):
            assert str(through) in path


@pytest.mark.fault(5)
@pytest.mark.parametrize("through", [None, "a", "b", "c"])
def test_a_damaged_tree_still_has_a_path(through: str | None) -> None:
    """A turn may follow a missing turn, or itself in a circle."""
    strays = Branches([Node("a", "gone"), Node("b", "a"), Node("c", "b")])
    assert strays.path(through) == ["a", "b", "c"]
    assert strays.siblings("a") == ["a"]
    circle = Branches([Node("a", "c"), Node("b", "a"), Node("c", "b")])
    assert sorted(circle.path(through)) == (["a", "b", "c"] if through else [])
