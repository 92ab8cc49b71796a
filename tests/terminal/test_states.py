"""The words of the status line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.terminal.test_sending import running
from tests.terminal.windows import HUNG, LONG, server, window
from turnstream.config import RetrySettings
from turnstream.terminal.asking import Asking
from turnstream.terminal.progress import state_words
from turnstream.terminal.server_connection import ServerAccess, ServerConnection
from turnstream.terminal.shown_chat import ShownChat
from turnstream.terminal.transcript_turn import TranscriptTurn

ONCE = RetrySettings(attempts=1)


@pytest.mark.requirement("L2")
async def test_the_state_is_ready_then_streaming_then_ready(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=LONG) as shown:
        assert shown.status().startswith("● Ready")
        await running(shown)
        assert "Streaming…" in shown.status()
        await shown.pilot.press("escape")
        await shown.until_ready()
        assert "● Ready" in shown.status()


@pytest.mark.requirement("L2")
async def test_a_model_that_thinks_is_shown_as_thinking(tmp_path: Path) -> None:
    asking = Asking("sim/thinking:fault=silence,after=8,pace=0")
    async with server(tmp_path) as url, window(url, asking=asking) as shown:
        await shown.ask("Think")
        await shown.until(lambda: "Thinking…" in shown.status(), "state")
        await shown.until_shown("▸ Thinking… ·")


@pytest.mark.requirement("L2")
async def test_a_failure_is_shown_with_its_reason(tmp_path: Path) -> None:
    asking = Asking("sim/story:fault=error,after=6,pace=0,code=overloaded_error")
    async with server(tmp_path, retry=ONCE) as url, window(url, asking=asking) as shown:
        await shown.ask("Fail")
        await shown.until(lambda: "Streaming failed: " in shown.status(), "state")
        await shown.until_shown("(overloaded_error)")


@pytest.mark.requirement("L2")
async def test_count_and_speed_are_shown_after_three_seconds(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=HUNG, animated=True) as shown:
        await shown.ask("Count")
        await shown.until(lambda: shown.app.conversation.running is not None, "running answer")
        chat = shown.app.conversation
        chat.began_at = time.monotonic() + 1000  # as at the beginning of an answer
        assert "characters" not in shown.status()
        chat.began_at = time.monotonic() - 4
        turn = chat.running
        assert turn is not None
        await shown.until(lambda: turn.characters > 10, "text")
        assert f"{turn.characters:,} characters, " in shown.status()
        assert "/s" in shown.status()


@pytest.mark.requirement("L2")
async def test_the_indicator_moves_while_an_answer_runs(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=HUNG, animated=True) as shown:
        await shown.ask("Move")
        await shown.until(lambda: shown.app.conversation.running is not None, "running answer")
        first = shown.lines()[-1].strip()[0]
        await shown.until(lambda: shown.lines()[-1].strip()[0] not in (first, "●"), "another frame")


@pytest.mark.requirement("L2")
async def test_the_state_says_that_a_call_is_retried_until_it_answers(tmp_path: Path) -> None:
    asking = Asking("sim/story:fault=error-before,times=1,events=100000,pace=0.01,label=pausing")
    retry = RetrySettings(attempts=2, delay=6.0)
    async with server(tmp_path, retry=retry) as url, window(url, asking=asking) as shown:
        await shown.ask("Retry")
        await shown.until(lambda: "Retrying… " in shown.status(), "state")
        assert "the call is retried in " in shown.status()
        await shown.until(lambda: "Streaming…" in shown.status(), "answer of the second call")


async def test_a_fallback_is_named_until_it_answers() -> None:
    chat = ShownChat(ServerConnection(ServerAccess("http://127.0.0.1:9")), Asking())
    turn = TranscriptTurn("turn", "assistant")
    chat.turns = [turn]
    turn.feed("turn_start", {"turn_id": "turn", "model": "one"})
    turn.feed("notice", {"code": "fallback", "message": "another model is called", "model": "two"})
    assert state_words(chat) == "Falling back… another model is called"
    turn.feed("block_start", {"block_index": 0, "block_type": "text"})
    assert state_words(chat) == "Streaming…"
    await chat.connection.close()


async def test_a_retry_is_a_line_of_the_turn(tmp_path: Path) -> None:
    asking = Asking("sim/echo:fault=error-before,times=1,pace=0,label=retried")
    retry = RetrySettings(attempts=2, delay=0.01, spacing=0.01)
    async with server(tmp_path, retry=retry) as url, window(url, asking=asking) as shown:
        await shown.ask("Again")
        await shown.until_ready()
        await shown.until(lambda: shown.screen().count("\n · ") == 1, "line of the retry")
        assert "$0.00" in shown.status()
