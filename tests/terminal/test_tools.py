"""Tools, their approvals, stages and sources."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import turnstream as ts
from tests.terminal.windows import ask_scripted, served, server, window
from turnstream.core.turn_events import Source, StepStart
from turnstream.terminal.asking import Asking

TOOLS = Asking("sim/tools:pace=0")


@pytest.mark.requirement("L6")
async def test_start_progress_and_result_of_a_tool_are_shown(tmp_path: Path) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    @ts.tool
    async def find_orders(customer: str, context: ts.ToolContext) -> str:
        """Find a customer's orders."""
        context.progress(f"looking for {customer}")
        begun.set()
        await finish.wait()
        return f"orders of {customer}"

    async with (
        server(tmp_path, tools=[find_orders]) as url,
        window(url, asking=TOOLS, size=(80, 40)) as shown,
    ):
        await shown.ask("Look")
        async with asyncio.timeout(30):
            await begun.wait()
        await shown.until_shown("⚙ find_orders")
        await shown.until_shown("customer: example 1")
        await shown.until_shown("looking for example 1")
        assert "Running find_orders…" in shown.status()
        finish.set()
        await shown.until_ready()
        await shown.until_shown("✓ find_orders")
        assert "→ orders of example 1" in shown.screen()
        assert "looking for" not in shown.screen()


@pytest.mark.requirement("L6")
async def test_a_tool_that_fails_is_marked(tmp_path: Path) -> None:
    @ts.tool
    def broken(name: str) -> str:
        """Fail."""
        raise ValueError(name)

    async with server(tmp_path, tools=[broken]) as url, window(url, asking=TOOLS, size=(80, 40)) as shown:
        await shown.ask("Fail")
        await shown.until_ready()
        await shown.until_shown("✗ broken")


@pytest.mark.parametrize(("key", "sign"), [("ctrl+y", "✓"), ("ctrl+x", "✗")])
async def test_a_call_is_approved_or_denied_by_key_and_never_by_enter(
    tmp_path: Path, key: str, sign: str
) -> None:
    ran: list[str] = []

    @ts.tool(ask="always")
    def delete_file(path: str) -> str:
        """Delete a file."""
        ran.append(path)
        return f"{path} is gone"

    async with server(tmp_path, tools=[delete_file]) as url:
        async with window(url, asking=TOOLS, size=(80, 40)) as shown:
            await shown.ask("Delete")
            await shown.until_shown("May this run? Ctrl+Y approves, Ctrl+X denies.")
            assert "Waiting for your approval" in shown.status()
            running = shown.app.conversation.running
            assert running is not None
            await shown.until(lambda: len(running.fold.approvals) == 2, "both requests")
            await shown.pilot.press("enter", "y", "enter")
            await shown.until(lambda: "still streaming" in shown.notices(), "refusal of the question")
            assert len(running.fold.approvals) == 2
            assert ran == []
            for left in (1, 0):
                await shown.pilot.press(key)
                await shown.until(lambda left=left: len(running.fold.approvals) == left, "answer")
            await shown.until_ready()
            await shown.until(lambda: shown.screen().count(f"{sign} delete_file") == 2, "results")
        assert len(ran) == (2 if sign == "✓" else 0)


async def test_stages_and_sources_are_shown(tmp_path: Path) -> None:
    async with served(tmp_path) as (engine, url):
        answer, chat_id = await ask_scripted(engine)
        answer.say(StepStart(0, name="execution", progress=0.5), "The sky is blue.")
        answer.say(
            Source("s1", "https://example.org/sky", "Why the sky is blue"),
            Source("s2", "file:///etc/passwd", "local"),
        )
        async with window(url, chat_id=chat_id) as shown:
            await shown.until(lambda: "execution (50 %)" in shown.status(), "stage")
            await shown.until_shown("The sky is blue.")
            answer.end()
            await shown.until_ready()
            await shown.until_shown("source: Why the sky is blue")
            notes = shown.app.query_one("TurnWidget.assistant > .notes")
            assert "link='https://example.org/sky'" in notes.visual.markup  # type: ignore[attr-defined]
            assert "file:" not in notes.visual.markup  # type: ignore[attr-defined]


HOSTILE = "\x1b]52;c;aGk=\x07 \x1b[31mred \x9b2J \u202edesrever\u2066 \U000e0041 [@click=app.exit]press[/] [bold]b[/]"


async def test_escapes_and_markup_of_a_model_are_only_text(tmp_path: Path) -> None:
    @ts.tool
    def hostile(name: str, context: ts.ToolContext) -> str:
        """Return escapes."""
        context.progress(HOSTILE)
        return HOSTILE

    async with served(tmp_path, tools=[hostile]) as (engine, url):
        answer, chat_id = await ask_scripted(engine, HOSTILE)
        answer.say(
            HOSTILE, "\n\n```\n", HOSTILE, "\n```\n", Source("s", f"https://x.example/{HOSTILE}", HOSTILE)
        )
        answer.end()
        async with window(url, chat_id=chat_id, size=(120, 40), asking=TOOLS) as shown:
            await shown.until_ready()
            await shown.until_shown("[bold]b[/]")
            await shown.ask(HOSTILE)
            await shown.until_ready(2)
            await shown.until_shown("✓ hostile")
            strips = shown.app.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]
            text = "".join(segment.text for strip in strips for segment in strip)
            found = {each for each in text if each in HOSTILE and not each.isprintable()}
            assert not found
            assert shown.app.is_running
