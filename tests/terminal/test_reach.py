"""Keys, the mouse and the palette in a window, and a network that is cut and comes back."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.nodes.proxy import TcpProxy
from tests.terminal.windows import ask_scripted, served, server, texts, window
from turnstream.client import AsyncClient
from turnstream.terminal.asking import Asking
from turnstream.terminal.shown_chat import PAGE

ECHO = Asking("sim/echo:pace=0")


async def test_ctrl_o_copies_the_last_answer(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.pilot.press("ctrl+o")
        await shown.until(lambda: "There is no answer yet." in shown.notices(), "refusal")
        await shown.ask("copy **this**")
        await shown.until_ready()
        await shown.pilot.press("ctrl+o")
        await shown.until(lambda: shown.app.clipboard == "copy **this**", "copied text")
        await shown.until(lambda: "13 characters copied." in shown.notices(), "notice")


async def test_the_palette_runs_what_a_key_does(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.ask("one")
        await shown.until_ready()
        await shown.pilot.press("ctrl+p")
        await shown.pilot.press(*"new chat")
        await shown.until_shown("key: Ctrl+N")
        await shown.pilot.press("enter")
        await shown.until(lambda: not texts(shown), "empty chat")


async def test_a_click_shows_the_branch_before_and_after(tmp_path: Path) -> None:
    async with server(tmp_path) as url, window(url, asking=ECHO) as shown:
        await shown.ask("first")
        await shown.until_ready()
        await shown.pilot.press("up", "2", "enter")
        await shown.until_shown("‹ 2/2 ›")
        await shown.until_ready()
        for sign, text, place in (("‹", "first", "‹ 1/2 ›"), ("›", "first2", "‹ 2/2 ›")):
            line = next(number for number, line in enumerate(shown.lines()) if sign in line)
            await shown.pilot.click(offset=(shown.lines()[line].index(sign), line))
            await shown.until(lambda text=text: texts(shown) == [text, text], f"branch of {text}")
            await shown.until_shown(place)


async def test_older_turns_are_read_at_the_beginning(tmp_path: Path) -> None:
    async with server(tmp_path) as url:
        async with AsyncClient(url) as client:
            chat_id = (await client.chats.create()).id
            last: str | None = None
            for number in range(PAGE // 2 + 3):
                turn = await client.send(
                    f"question {number}", chat_id=chat_id, prev_turn_id=last, model="sim/echo:pace=0"
                )
                last = (await turn.wait()).turn_id
        async with window(url, chat_id=chat_id) as shown:
            await shown.until_ready(PAGE // 2)
            assert texts(shown)[0] == "question 3"
            await shown.pilot.press("home")
            await shown.until(lambda: shown.app.transcript.scroll_y == 0, "beginning")
            await shown.pilot.press("home")
            await shown.until(lambda: texts(shown)[0] == "question 0", "older turns")
            assert len(texts(shown)) == 2 * (PAGE // 2 + 3)
            assert shown.app.conversation.previous is None


async def test_the_network_is_cut_and_back_and_the_answer_is_whole(tmp_path: Path) -> None:
    async with served(tmp_path) as (engine, url):
        address = urlsplit(url)
        answer, chat_id = await ask_scripted(engine)
        with TcpProxy((str(address.hostname), int(address.port or 0))) as proxy:
            async with window(f"http://127.0.0.1:{proxy.port}", chat_id=chat_id) as shown:
                answer.say("before, ")
                await shown.until_shown("before,")
                proxy.refuse()
                proxy.cut()
                await shown.until(lambda: "Connection lost: reconnecting…" in shown.status(), "loss")
                answer.say("meanwhile, ")
                proxy.accept()
                await shown.until_shown("before, meanwhile,")
                answer.say("after")
                answer.end()
                await shown.until_ready()
                assert texts(shown)[-1] == "before, meanwhile, after"
                assert shown.status().startswith("● Ready")
