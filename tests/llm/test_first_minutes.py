"""The first things that a newcomer types."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import turnstream as ts


def test_the_package_says_its_version() -> None:
    assert ts.__version__ == version("turnstream")


def test_names_are_those_of_the_package_alone() -> None:
    strangers = {"Any", "TYPE_CHECKING", "annotations", "import_module", "_HOMES"}
    assert not strangers & set(dir(ts))
    assert set(ts.__all__) < set(dir(ts))
    for name in dir(ts):
        assert getattr(ts, name) is not None or name == "__doc__"


def test_every_event_and_both_clients_are_at_the_top() -> None:
    for name in (
        "TurnStart",
        "TurnError",
        "TurnCancelled",
        "TextDelta",
        "MessageStop",
        "Client",
        "AsyncClient",
    ):
        assert name in ts.__all__


def test_a_message_is_short_in_a_console_and_text_in_a_notebook() -> None:
    with ts.LLM("sim/demo").stream_sync("hi") as stream:
        message = stream.final_message()
    assert len(repr(message)) < 150
    assert "sim/demo" in repr(message)
    assert "end_turn" in repr(message)
    assert message._repr_markdown_() == message.text


def test_a_parameter_of_the_model_is_sent_to_its_place() -> None:
    with pytest.raises(TypeError, match=r"params=\{'temperature'"):
        ts.LLM("sim/demo", temperature=1)  # pyright: ignore[reportArgumentType]
