"""Keys that send and stop, while an answer streams."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.terminal.windows import LONG, SECONDS, Window, server, texts, window
from turnstream.terminal.asking import Asking

ECHO = Asking("sim/echo:pace=0")


async def test_a_question_is_sent_and_its_answer_shown(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.pilot.press(*"Hello!")
        await shown.pilot.press("enter")
        await shown.until_ready()
        await shown.until_shown("● Ready")
        assert texts(shown) == ["Hello!", "Hello!"]
        shown_lines = [line.strip() for line in shown.lines() if line.strip()]
        assert shown_lines[:4] == ["You", "Hello!", "sim/echo:pace=0", "Hello!"]
        assert shown.app.prompt.text == ""


@pytest.mark.requirement("L1")
async def test_typing_stays_possible_while_text_streams(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=LONG) as shown:
        await running(shown)
        before = len(texts(shown)[-1])
        for key in "next":
            shown.app.simulate_key(key)
        await shown.until(lambda: shown.app.prompt.text == "next", "typed text")
        await shown.until(lambda: len(texts(shown)[-1]) > before, "growth while typing")
        assert shown.app.conversation.running is not None
        await shown.pilot.press("escape")
        await shown.until_ready()
        assert shown.app.prompt.text == "next"


@pytest.mark.requirement("L1")
async def test_a_second_question_while_one_streams_is_refused_and_kept(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=LONG) as shown:
        await running(shown)
        await shown.ask("And another")
        await shown.until(lambda: "still streaming" in shown.notices(), "refusal")
        assert shown.app.prompt.text == "And another"
        assert len(texts(shown)) == 2
        await shown.pilot.press("escape")
        await shown.until_ready()


@pytest.mark.requirement("L1")
@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_a_key_stops_the_answer_on_the_server(tmp_path: Path, key: str) -> None:
    async with server(tmp_path) as url, window(url, asking=LONG) as shown:
        await running(shown)
        turn = shown.app.conversation.running
        assert turn is not None
        await shown.pilot.press(key)
        await shown.until_ready()
        await shown.until_shown("■ stopped")
        assert "Ready" in shown.status()
        stored = await shown.client.read(turn.turn_id)
        assert stored.status == "cancelled"
        assert stored.text == turn.text()


async def test_ctrl_c_twice_closes_the_window_and_leaves_the_chat(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url) as shown:
        await shown.pilot.press("x", "ctrl+c")
        assert shown.app.prompt.text == ""
        await shown.pilot.press("ctrl+c")
        await shown.until(lambda: "again closes" in shown.notices(), "notice")
        assert shown.app.is_running
        async with asyncio.timeout(SECONDS):
            while not shown.app._exit:  # pyright: ignore[reportPrivateUsage]
                await shown.pilot.press("ctrl+c")  # again, if a loaded machine was late with the second one


async def test_a_failed_question_returns_to_the_prompt(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=Asking("nobody/knows")) as shown:
        await shown.ask("A question")
        await shown.until(lambda: shown.app.prompt.text == "A question", "returned text")
        await shown.until(lambda: "nobody" in shown.notices(), "reason")
        assert texts(shown) == []


async def running(shown: Window) -> None:
    await shown.ask("Tell a story")
    await shown.until(
        lambda: shown.app.conversation.running is not None and texts(shown)[-1], "running answer"
    )
