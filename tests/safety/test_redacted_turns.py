"""Redaction in the engine and in the library: no secret reaches a frame, a row, the journal or a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import turnstream as ts
from tests.turnlog.watching import Client
from tests.turns.world import SECONDS, Feed
from turnstream.config import EngineSettings, RedactionSettings
from turnstream.engine import Engine
from turnstream.errors import ConfigurationError
from turnstream.model_loop.redacted_source import RedactedSource
from turnstream.model_loop.sources import TurnSource
from turnstream.safety.loading import configured_redaction
from turnstream.safety.redaction import Redaction
from turnstream.safety.rules import RedactionRule

SECRET = "bob@example.org"
ECHO = EngineSettings(default_model="sim/echo")


def upper(match: str) -> str:
    """Return a replacement, as a function of the settings does."""
    return match.upper()


def files_of(folder: Path) -> bytes:
    """Return the content of all files of a folder: a database and its log."""
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


async def told(turn_id: str, engine: Engine, client: Client) -> None:
    """Read a turn to its end, from the client's position on."""
    subscription = await engine.subscribe(turn_id)
    async with asyncio.timeout(SECONDS):
        while (data := await subscription.next()) is not None:
            assert b"bob@" not in data
            client.receive(data)


@pytest.mark.requirement("K1")
async def test_no_frame_and_no_row_has_the_secret(tmp_path: Path) -> None:
    feed = Feed()
    path = tmp_path / "a.sqlite"
    async with Engine(f"sqlite:///{path}", redaction=Redaction(shown=["email"])) as engine:
        turn = await engine.start(feed.events())
        live = Client()
        watching = asyncio.create_task(told(turn.id, engine, live))
        await feed.say(ts.ContentBlockStart(0, "text"))
        for character in f"Write to {SECRET} or to anna":
            await feed.say(ts.TextDelta(0, character))
        await engine._journal.write()
        written = files_of(tmp_path)
        assert b"Write to" in written
        assert b"bob@" not in written
        feed.put(ts.ContentBlockStop(0))
        feed.end()
        await watching
        late = Client()
        await told(turn.id, engine, late)
        state = await turn.wait()
        assert [row.block.text_content for row in state.blocks] == ["Write to [email] or to anna"]
    assert b"bob@" not in files_of(tmp_path)


@pytest.mark.requirement("K1")
async def test_a_provider_does_not_get_what_is_not_to_be_sent(tmp_path: Path) -> None:
    redaction = Redaction(sent=["email"])
    async with Engine(f"sqlite:///{tmp_path}/a.sqlite", settings=ECHO, redaction=redaction) as engine:
        turn = await engine.send(f"I am {SECRET}")
        state = await turn.wait()
        assert [row.block.text_content for row in state.blocks] == ["I am [email]"], "the model saw this"
        assert state.turn.prev_turn_id is not None
        asked = await engine.commands.state("local", state.turn.prev_turn_id)
        assert [row.block.text_content for row in asked.blocks] == [f"I am {SECRET}"], (
            "the user sees the text"
        )


async def test_the_library_redacts_what_is_read_and_what_is_sent() -> None:
    shown = ts.LLM("sim/echo:pace=0", redaction=ts.Redaction(shown=["email"]))
    assert (await shown.collect(f"I am {SECRET}.")).text == "I am [email]."
    pieces = [piece async for piece in texts(shown)]
    assert SECRET not in "".join(pieces)
    sent = ts.LLM("sim/echo:pace=0", redaction=ts.Redaction(sent=[ts.RedactionRule("name", "bob")]))
    assert (await sent.collect(f"I am {SECRET}.")).text == "I am [name]@example.org."


async def texts(llm: ts.LLM) -> AsyncIterator[str]:
    """Yield the pieces of an answer with the secret."""
    async with llm.stream(f"I am {SECRET}.") as stream:
        async for piece in stream.text:
            yield piece


def test_settings_name_rules_and_describe_new_ones() -> None:
    settings = RedactionSettings.model_validate(
        {
            "shown": ["email", "ticket"],
            "sent": "shout",
            "patterns": {
                "ticket": {"pattern": "T-[0-9]{4}", "replacement": "(ticket)"},
                "shout": {"pattern": "loud", "function": f"{__name__}:upper"},
            },
        }
    )
    redaction = configured_redaction(settings)
    assert redaction.shown is not None
    assert redaction.sent is not None
    assert [rule.name for rule in redaction.shown.rules] == ["email", "ticket"]
    assert redaction.sent.rules[0].replace("loud") == "LOUD"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shown": ["mail"]}, "names the rule 'mail'; there are: private_key, api_key, email"),
        ({"shown": ["x"], "patterns": {"x": {"pattern": "(?=a)"}}}, "only the groups"),
        ({"shown": ["x"], "patterns": {"x": {"pattern": "a*"}}}, "empty text"),
        (
            {"shown": ["x"], "patterns": {"x": {"pattern": "a.*b"}}},
            "before a match is certain: write {0,100}",
        ),
        (
            {"shown": ["x"], "patterns": {"x": {"pattern": "ab", "function": "nowhere:f"}}},
            "cannot be imported",
        ),
    ],
)
def test_an_invalid_rule_is_named(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.replace("(", r"\(").replace("{", r"\{")):
        configured_redaction(RedactionSettings.model_validate(settings))


def test_a_rule_of_a_checksum_needs_a_bound() -> None:
    with pytest.raises(ConfigurationError, match="more than 4,096 characters"):
        Redaction([RedactionRule("long", "a[0-9]*", check=str.isascii)])


def test_a_redacted_source_has_all_that_a_source_has() -> None:
    inherited = {name for name in vars(TurnSource) if not name.startswith("_")} - vars(RedactedSource).keys()
    assert inherited == {"needs_end_marker", "needs_preparation"}, "both are set when it is made"
