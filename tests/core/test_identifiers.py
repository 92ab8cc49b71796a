"""Ids: their order, and the mark that some of them carry."""

from __future__ import annotations

from turnstream.core.identifiers import has_home, is_id, is_of_home, new_id

COUNT = 20_000


def test_ids_with_and_without_a_mark_rise_in_one_order() -> None:
    made = [new_id("here" if number % 3 else None) for number in range(COUNT)]
    assert made == sorted(set(made))
    assert all(map(is_id, made))


def test_a_mark_tells_the_home_of_an_id() -> None:
    for _ in range(100):
        marked = new_id("here")
        assert has_home(marked)
        assert is_of_home(marked, "here")
        assert not is_of_home(marked, "there")


def test_other_texts_have_no_mark() -> None:
    taken = sum(has_home(new_id()) for _ in range(COUNT))
    assert taken < 10, "one in 65,536 is expected"
    assert not has_home("")
    assert not has_home("x" * 36)
