"""Branches, chats, commands, and two windows on one chat."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.terminal.windows import LONG, ask_scripted, served, server, texts, window
from turnstream.core.turn_events import Notice, Source, StepStart
from turnstream.terminal.asking import Asking

ECHO = Asking("sim/echo:pace=0")


async def test_an_edited_question_begins_a_branch_and_both_can_be_shown(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.ask("first")
        await shown.until_ready()
        await shown.pilot.press("up")
        await shown.until(lambda: shown.app.prompt.text == "first", "the question in the prompt")
        assert "editing" in shown.status()
        await shown.pilot.press("2", "enter")
        await shown.until(lambda: texts(shown) == ["first2", "first2"], "second branch")
        await shown.until_ready()
        await shown.until_shown("‹ 2/2 ›")
        await shown.pilot.press("alt+left")
        await shown.until(lambda: texts(shown) == ["first", "first"], "first branch")
        await shown.until_shown("‹ 1/2 ›")
        await shown.pilot.press("alt+right")
        await shown.until(lambda: texts(shown) == ["first2", "first2"], "second branch")


async def test_esc_keeps_the_question_that_was_to_be_edited(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.ask("first")
        await shown.until_ready()
        await shown.pilot.press("up", "escape")
        assert shown.app.prompt.text == ""
        await shown.ask("second")
        await shown.until_ready(2)
        assert texts(shown) == ["first", "first", "second", "second"]


async def test_regenerate_makes_another_answer_beside_the_old(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.ask("again")
        await shown.until_ready()
        old = shown.app.conversation.turns[-1].turn_id
        await shown.pilot.press("ctrl+r")
        await shown.until(lambda: shown.app.conversation.turns[-1].turn_id != old, "new answer")
        await shown.until_ready()
        assert shown.app.conversation.turns[-1].siblings[0] == old
        assert len(texts(shown)) == 2


async def test_a_new_chat_and_back_by_search(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO, size=(100, 30)) as shown:
        for question in ("about apples", "about pears"):
            await shown.pilot.press("ctrl+n")
            await shown.until(lambda: not texts(shown), "empty chat")
            await shown.ask(question)
            await shown.until_ready()
        await shown.pilot.press("ctrl+s")
        await shown.until_shown("2 chats")
        await shown.pilot.press(*"apples")
        await shown.until_shown("1 chat.")
        await shown.pilot.press("enter")
        await shown.until(lambda: texts(shown) == ["about apples", "about apples"], "old chat")


async def test_two_windows_on_one_chat_stay_in_step(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=LONG) as first:
        await first.ask("Tell a story")
        await first.until(lambda: first.app.conversation.chat_id, "chat")
        async with window(url, chat_id=first.app.conversation.chat_id, asking=ECHO) as second:
            await second.until(lambda: second.app.conversation.running is not None, "running answer")
            await second.pilot.press("escape")
            await asyncio.gather(first.until_ready(), second.until_ready())
            assert texts(first) == texts(second)
            await second.ask("From the other window")
            await first.until_ready(2)
            await second.until_ready(2)
            assert texts(first) == texts(second)
            assert texts(first)[2:] == ["From the other window"] * 2
            await first.until_shown("From the other window")


async def test_commands_choose_model_system_and_params(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url) as shown:
        chat = shown.app.conversation
        await shown.ask("/model sim/echo:pace=0")
        await shown.until(lambda: chat.asking.model == "sim/echo:pace=0", "model")
        await shown.ask("/system Be brief.")
        await shown.ask('/params temperature=0.2 stop=["x"]')
        await shown.ask("/tools none")
        await shown.until(lambda: chat.asking.tools == [], "tools")
        await shown.ask("hello")
        await shown.until_ready()
        stored = await shown.client.read(chat.turns[-1].turn_id)
        assert stored.system == "Be brief."
        assert stored.params["temperature"] == 0.2
        await shown.ask("/nonsense")
        await shown.until(lambda: "there is no command /nonsense" in shown.notices(), "refusal")


async def test_export_writes_the_branch_and_never_over_a_file(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.ask("keep this")
        await shown.until_ready()
        target = tmp_path / "chat.md"
        await shown.ask(f"/export {target}")
        await shown.until(target.exists, "file")
        await shown.until(lambda: "Written to" in shown.notices(), "notice")
        written = "# keep this\n\n## You\n\nkeep this\n\n## sim/echo:pace=0\n\nkeep this\n"
        assert target.read_text() == written
        await shown.ask(f"/export {target}")
        await shown.until(lambda: "cannot be written" in shown.notices(), "refusal")


async def test_a_file_is_attached_to_the_next_question(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("the note")
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.ask(f"/attach {note}")
        await shown.until(lambda: "1 attached" in shown.notices(), "notice")
        await shown.ask("read it")
        await shown.until_ready()
        stored = await shown.client.read(shown.app.conversation.turns[0].turn_id)
        assert [block.block_type for block in stored.blocks] == ["text", "document"]
        await shown.until_shown("[document: note.txt]")
        await shown.ask(f"/attach {tmp_path}/missing.png")
        await shown.until(lambda: "cannot be read" in shown.notices(), "refusal")


async def test_a_chat_opened_again_has_its_notices_and_sources(tmp_path: Path) -> None:
    async with served(tmp_path) as (engine, url):
        answer, chat_id = await ask_scripted(engine)
        answer.say(
            StepStart(0, name="search"),
            "It is ",
            "blue.",
            Notice("media_left_out", "two images are left out"),
        )
        answer.say(Source("s1", "https://example.org/sky", "Why the sky is blue"))
        async with window(url, chat_id=chat_id) as live:
            await live.until_shown("source: Why the sky is blue")
            answer.end()
            await live.until_ready()
            await live.until_shown("· two images are left out")
            await live.until_shown("● Ready")
            async with window(url, chat_id=chat_id) as again:
                await again.until_ready()
                await again.until(lambda: again.screen() == live.screen(), f"screen as\n{live.screen()}\n")
            state = live.app.conversation.turns[-1]
            stored = await live.client.chats.path(chat_id)
            for _ in range(2):
                state.take_stored(stored.turns[-1])
            assert [note.code for note in state.notes] == ["stage", "media_left_out"]
            assert len(state.sources) == 1
