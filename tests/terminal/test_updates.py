"""Draws are throttled, and the last change is always drawn."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.terminal.windows import ask_scripted, served, texts, window


@pytest.mark.requirement("L5")
async def test_draws_are_throttled_and_the_last_change_is_drawn(tmp_path: Path) -> None:
    async with served(tmp_path) as (engine, url):
        answer, chat_id = await ask_scripted(engine)
        async with window(url, chat_id=chat_id, update_interval=0.2) as shown:
            await shown.until(lambda: shown.app.conversation.running is not None, "running answer")
            began, before = time.monotonic(), shown.app.draws
            for number in range(300):
                answer.say(f"word{number} ")
                await asyncio.sleep(0)
            answer.say("the very last words")
            answer.end()
            await shown.until_ready()
            draws, seconds = shown.app.draws - before, time.monotonic() - began
            assert draws <= seconds / 0.2 + 2
            await shown.until_shown("the very last words")
            assert texts(shown)[-1].endswith("word299 the very last words")
