"""The first lines that a newcomer types."""

from __future__ import annotations

import inspect
from importlib.metadata import version

import pytest

import turnstream as ts
from turnstream.llm.call_options import MODEL_OPTIONS


def test_the_package_says_its_version() -> None:
    assert ts.__version__ == version("turnstream")


def test_names_are_those_of_the_package_alone() -> None:
    strangers = {"Any", "TYPE_CHECKING", "annotations", "import_module", "_HOMES", "_NAMES"}
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
    stream = ts.LLM("sim/demo").stream_sync("hi")
    assert repr(stream) == f"<SyncMessageStream {stream.id}, not begun>"
    with stream:
        assert repr(stream) == f"<SyncMessageStream {stream.id}, running>"
        message = stream.final_message()
    assert repr(stream) == f"<SyncMessageStream {stream.id}, complete>"
    kept = message.as_message()
    assert repr(kept).startswith("<Message of assistant, 1 blocks: 'Hello! ")
    assert len(repr(kept)) < 110
    assert kept._repr_markdown_() == kept.text == message.text
    silent: ts.ModelMessage[None] = ts.ModelMessage("m")
    assert silent._repr_markdown_() is silent.as_message()._repr_markdown_() is None, "the repr is shown"
    assert len(repr(message)) < 150
    assert "sim/demo" in repr(message)
    assert "end_turn" in repr(message)
    assert message._repr_markdown_() == message.text


def test_a_parameter_of_the_model_is_sent_to_its_place() -> None:
    with pytest.raises(TypeError, match=r"params=\{'temperature'"):
        ts.LLM("sim/demo", temperature=1)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("max_tokens", "params={'max_tokens': …}"),
        ("top_p", "params={'top_p': …}"),
        ("system", "it is system=… of each call"),
        ("tools", "it is tools=… of each call"),
        ("messages", "it is messages=… of each call"),
        ("params", "it is params=… of each call"),
        ("output", "it is output=… of each call"),
        ("system_prompt", "it is system=… of each call"),
        ("api_key", "providers={'openai': {'api_key_env': 'MY_KEY'}}"),
        ("base_url", "providers={'openai': {'base_url': …}}"),
        ("headers", "providers={'openai': {'headers': …}}"),
        ("timeout", "providers={'openai': {'timeouts': {'total': …}}}"),
        ("max_retries", "retry=RetrySettings(attempts=…)"),
        ("stream", "llm.stream(…)"),
    ],
)
def test_an_option_of_another_place_is_told_its_place(name: str, place: str) -> None:
    with pytest.raises(TypeError, match=r"LLM\(\) takes no ") as raised:
        ts.LLM("openai/m", **{name: 1})  # type: ignore[arg-type]
    assert place in str(raised.value)
    if name in ts.CallOptions.__annotations__ or name == "output":
        return
    with pytest.raises(TypeError, match="a call has no option") as refused:
        ts.LLM("sim/demo").stream("x", **{name: 1})  # type: ignore[call-overload]
    assert place.replace("openai", "NAME") in str(refused.value)


@pytest.mark.parametrize("name", sorted(MODEL_OPTIONS))
def test_an_option_of_the_llm_is_not_an_option_of_a_call(name: str) -> None:
    assert name in inspect.signature(ts.LLM).parameters
    with pytest.raises(TypeError, match=rf"it is {name}=… of LLM\(…\)"):
        ts.LLM("sim/demo").stream("x", **{name: 1})  # type: ignore[call-overload]


def test_every_option_of_the_llm_is_known() -> None:
    assert inspect.signature(ts.LLM).parameters.keys() - {"misplaced"} == MODEL_OPTIONS


def test_clients_and_turns_are_short_in_a_console() -> None:
    with ts.Client("http://127.0.0.1:8089") as client:
        assert repr(client) == "Client('http://127.0.0.1:8089/api')"
        assert repr(client.watch("t")) == "<Turn t, pending: ''>"
