"""Thinking is shown apart from the answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.terminal.windows import ask_scripted, served, server, window
from turnstream.core.stream_events import ThinkingDelta
from turnstream.terminal.asking import Asking
from turnstream.terminal.think_text import ThinkText, ThoughtPiece
from turnstream.terminal.widgets.thinking_view import ThinkingView


@pytest.mark.requirement("L4")
async def test_thinking_is_folded_and_a_key_opens_it(tmp_path: Path) -> None:
    asking = Asking("sim/thinking:pace=0")
    async with server(tmp_path) as url, window(url, asking=asking, size=(100, 40)) as shown:
        await shown.ask("Think")
        await shown.until_ready()
        await shown.until_shown("▸ Thought · ")
        assert "Which characters break streams?" not in shown.screen()
        await shown.pilot.press("ctrl+t")
        await shown.until_shown("Which characters break streams?")
        assert "▾ Thought" in shown.screen()
        await shown.pilot.press("ctrl+t")
        await shown.until(lambda: "Which characters" not in shown.screen(), "folded thinking")


@pytest.mark.requirement("L4")
async def test_thinking_that_is_opened_while_it_grows_is_whole(tmp_path: Path) -> None:
    async with served(tmp_path) as (engine, url):
        answer, chat_id = await ask_scripted(engine)
        async with window(url, chat_id=chat_id, update_interval=0.0) as shown:
            await shown.until(lambda: shown.app.conversation.running is not None, "running answer")
            words = [f"word{number} " for number in range(200)]
            for word in words:
                answer.say(ThinkingDelta(0, word))
                shown.app.action_thinking()
                await asyncio.sleep(0)
            answer.end()
            await shown.until_ready()
            shown.app.transcript.set_folded(folded=False)
            draws = shown.app.draws
            shown.app.note_change()
            await shown.until(lambda: shown.app.draws > draws, "draw")
            (thinking,) = shown.app.query(ThinkingView)
            assert thinking.text is not None
            assert "".join(section.source for section in thinking.text.sections) == "".join(words)


@pytest.mark.requirement("L4")
async def test_thinking_between_tags_of_the_text_is_folded_too(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=Asking("sim/echo:chunk=3,pace=0")) as shown:
        await shown.ask("<think>secret steps</think>The answer")
        await shown.until_ready()
        await shown.until_shown("▸ Thought · 12 characters")
        answer = "\n".join(shown.lines()[3:])
        assert "The answer" in answer
        assert "secret steps" not in answer
        assert "think>" not in answer


@pytest.mark.requirement("L4")
@given(st.lists(st.integers(1, 40), max_size=30))
def test_tags_are_found_at_any_split_of_the_text(cuts: list[int]) -> None:
    text = "  <think>one < two </thin then</think>\n\nsaid <think>not a thought</think>"
    split = ThinkText()
    pieces: list[ThoughtPiece] = []
    rest = text
    for cut in cuts:
        pieces += split.feed(rest[:cut])
        rest = rest[cut:]
    pieces += [*split.feed(rest), *split.close()] if rest else split.close()
    assert "".join(piece.text for piece in pieces if piece.thinking) == "one < two </thin then"
    assert "".join(piece.text for piece in pieces if not piece.thinking) == (
        "said <think>not a thought</think>"
    )
