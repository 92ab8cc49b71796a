"""The field for questions: lines, pastes, completions; and scrolling."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events

from tests.terminal.windows import LONG, server, texts, window
from turnstream.terminal.asking import Asking

ECHO = Asking("sim/echo:pace=0")
SHORT = Asking("sim/story:events=5,pace=0")
STORY = Asking("sim/story:events=600,pace=0")


async def test_ctrl_j_begins_a_line_and_enter_sends_all(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.pilot.press("a", "ctrl+j", "b", "enter")
        await shown.until_ready()
        assert texts(shown)[0] == "a\nb"


@pytest.mark.requirement("L3")
async def test_a_megabyte_is_pasted_and_sent_whole(tmp_path: Path) -> None:
    pasted = "".join(f"line {number} of the paste\n" for number in range(45_000))
    assert len(pasted) > 1_000_000
    async with server(tmp_path) as url, window(url, asking=SHORT) as shown:
        shown.app.prompt.post_message(events.Paste(pasted))
        await shown.until_shown("[pasted text 1: ")
        await shown.pilot.press("!", "enter")
        await shown.until_ready()
        assert texts(shown)[0] == pasted + "!"
        stored = await shown.client.read(shown.app.conversation.turns[0].turn_id)
        assert stored.text == pasted + "!"


@pytest.mark.requirement("L3")
async def test_a_short_paste_is_text_without_control_characters(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url) as shown:
        shown.app.prompt.post_message(events.Paste("one\ntwo\x1b[31m"))
        await shown.until(lambda: shown.app.prompt.text, "paste")
        assert shown.app.prompt.text == "one\ntwo␛[31m"
        assert not shown.app.conversation.turns  # a line feed of a paste is not Enter


async def test_commands_are_completed(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url) as shown:
        await shown.until(lambda: shown.app.commands.choices()["model"], "models")
        await shown.pilot.press(*"/mo")
        await shown.until_shown("/model  [PROVIDER/MODEL]")
        await shown.pilot.press("tab")
        assert shown.app.prompt.text == "/model "
        await shown.pilot.press(*"sim/", "down", "tab")
        assert shown.app.prompt.text == f"/model {shown.app.commands.choices()['model'][1]}"
        await shown.pilot.press("enter")
        await shown.until(lambda: shown.app.conversation.asking.model, "model")


@pytest.mark.requirement("L3")
async def test_scrolling_holds_its_place_while_text_comes_and_follows_at_the_end(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=LONG) as shown:
        transcript = shown.app.transcript
        await shown.ask("Tell a long story")
        await shown.until(
            lambda: 30 < transcript.max_scroll_y == transcript.scroll_y, "the end of text beyond the screen"
        )
        await shown.pilot.press("pageup")
        held, end = transcript.scroll_y, transcript.max_scroll_y
        assert held < end
        await shown.until(lambda: transcript.max_scroll_y > end + 3, "more text")
        assert transcript.scroll_y == held
        await shown.pilot.press("ctrl+end")
        await shown.until(lambda: transcript.scroll_y == transcript.max_scroll_y, "end")
        end = transcript.max_scroll_y
        await shown.until(lambda: end + 2 < transcript.max_scroll_y == transcript.scroll_y, "more text")
        await shown.pilot.press("escape")
        await shown.until_ready()


@pytest.mark.requirement("L3")
async def test_line_page_wheel_home_and_end_scroll(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=STORY) as shown:
        transcript = shown.app.transcript
        await shown.ask("Tell")
        await shown.until_ready()
        await shown.until(lambda: transcript.max_scroll_y > 20, "long answer")
        end = transcript.max_scroll_y
        places = [transcript.scroll_y]
        for key in ("ctrl+up", "pageup", "ctrl+down", "pagedown", "home", "end"):
            await shown.pilot.press(key)
            await shown.pilot.pause()
            places.append(transcript.scroll_y)
        page = transcript.size.height
        assert places == [end, end - 1, end - 1 - page, end - page, end, 0, end]
        await shown.pilot._post_mouse_events([events.MouseScrollUp], transcript, offset=(5, 5))  # type: ignore[list-item]
        await shown.until(lambda: transcript.scroll_y < end, "wheel")


@pytest.mark.requirement("L3")
async def test_a_resized_window_shows_the_end_of_the_answer(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=STORY) as shown:
        await shown.ask("Tell")
        await shown.until_ready()
        words = texts(shown)[-1].split()
        for size in ((200, 60), (40, 12), (20, 8), (80, 24)):
            await shown.pilot.resize_terminal(*size)
            await shown.until(lambda size=size: shown.app.size == size, "size")
            await shown.until_shown(words[-1])
            await shown.until_shown("Ready")
