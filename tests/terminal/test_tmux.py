"""The window in a real terminal: tests press keys and read the screen."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.terminal.windows import server

SECONDS = 40.0


class Tmux:
    """A terminal of 100 × 30, in a tmux server of its own. `raw` has all bytes that the window writes."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux.sock"
        self._folder = folder
        self.raw = folder / "raw"

    async def run(self, *arguments: str, check: bool = True) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate()
        assert process.returncode == 0 or not check, (arguments, errors)
        return output.decode()

    async def chat(self, *arguments: str, **environ: str) -> None:
        """Open a window."""
        folders = {f"XDG_{kind}_HOME": str(self._folder) for kind in ("STATE", "DATA")}
        exported = {"COLUMNS": "80", "LINES": "24"}  # wrong sizes: those of the terminal must win
        given = {**folders, **exported, **environ}
        program = shlex.join([sys.executable, "-m", "turnstream.cli.main", "chat", *arguments])
        setting = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
        command = (
            f"cd {shlex.quote(str(Path.cwd()))}; env -u NO_COLOR {setting} {program}; echo ended: $?; read x"
        )
        await self.run("new-session", "-d", "-s", "chat", "-x", "100", "-y", "30", "sh")
        await self.run("pipe-pane", "-t", "chat", f"cat > {shlex.quote(str(self.raw))}")
        await self.run("send-keys", "-t", "chat", "-l", command)
        await self.keys("Enter")

    async def keys(self, *keys: str) -> None:
        await self.run("send-keys", "-t", "chat", *keys)

    async def type(self, text: str) -> None:
        await self.run("send-keys", "-t", "chat", "-l", text)

    async def resize(self, columns: int, lines: int) -> None:
        await self.run("resize-window", "-t", "chat", "-x", f"{columns}", "-y", f"{lines}")

    async def until(self, pattern: str) -> str:
        """Wait until the screen shows a pattern. Return the screen."""
        screen = ""
        try:
            async with asyncio.timeout(SECONDS):
                while not re.search(pattern, screen):
                    await asyncio.sleep(0.05)
                    screen = await self.run("capture-pane", "-p", "-t", "chat")
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} on\n{screen}") from None
        return screen

    async def kill_window(self) -> None:
        await self.run("kill-session", "-t", "chat")

    async def end(self) -> None:
        await self.run("kill-server", check=False)


@asynccontextmanager
async def ended(terminal: Tmux) -> AsyncIterator[None]:
    """End a terminal before its server, which waits for its windows."""
    try:
        yield
    finally:
        await terminal.end()


@pytest.fixture
async def tmux(tmp_path: Path) -> AsyncIterator[Tmux]:
    terminal = Tmux(tmp_path)
    await terminal.run("new-session", "-d", "-s", "keeper", "sh")  # the server stays when a window is killed
    yield terminal
    await terminal.end()


@pytest.mark.requirement("L3", "R4")
async def test_a_chat_is_driven_by_keys_and_survives_its_window(tmux: Tmux, tmp_path: Path) -> None:
    async with server(tmp_path) as url, ended(tmux):
        await tmux.chat("--url", url, "-m", "sim/story:events=300,pace=0.02", TERM="xterm-256color")
        await tmux.until("● Ready")
        await tmux.type("Tell me a story")
        await tmux.keys("Enter")
        screen = await tmux.until("Streaming…")
        assert "Tell me a story" in screen
        await tmux.until(r"(\w+ ){5}")
        for columns, lines in ((60, 20), (100, 30)):
            await tmux.resize(columns, lines)
            await tmux.until(rf"(?s)\w[\s▁-▇]+▊▔{{{columns - 2}}}▎\n.*(Streaming|Ready)")
        await tmux.kill_window()
        await tmux.chat("--url", url, "--last", TERM="xterm-256color")
        await tmux.until("● Ready +300 tokens")
        for columns, lines in ((70, 20), (120, 40)):
            await tmux.resize(columns, lines)
            screen = await tmux.until(rf"(?s)\w[\s▁-▇]+▊▔{{{columns - 2}}}▎\n.*● Ready +300 tokens")
            assert len(screen.splitlines()) == lines
        await tmux.keys("C-t")
        await tmux.type("/model sim/thinking:pace=0")
        await tmux.keys("Enter")
        await tmux.until("next answers are of")
        await tmux.type("And think")
        await tmux.keys("Enter")
        await tmux.until("▾ Thought")
        await tmux.keys("C-c", "C-c")
        await tmux.until("ended: 0")


HOSTILE = r"\x1b]52;c;aGVsbG8=\x07 \x1b[31mred \x1b[2J"


@pytest.mark.parametrize(
    "environ", [{"TERM": "xterm"}, {"TERM": "xterm-256color", "NO_COLOR": "1"}], ids=repr
)
async def test_few_or_no_colours_and_no_escapes_of_the_model(
    tmux: Tmux, tmp_path: Path, environ: dict[str, str]
) -> None:
    hostile = HOSTILE.encode().decode("unicode_escape")
    async with server(tmp_path) as url, ended(tmux):
        await tmux.chat("--url", url, "-m", "sim/echo:pace=0", **environ)
        await tmux.until("● Ready")
        await tmux.run("set-buffer", hostile)
        await tmux.run("paste-buffer", "-p", "-t", "chat")
        await tmux.until("red")
        await tmux.keys("Enter")
        await tmux.until("● Ready +1?[0-9] token")
        await tmux.keys("C-q")
        await tmux.until("ended: 0")
    raw = tmux.raw.read_bytes()
    window = raw[raw.index(b"\x1b[?1049h") : raw.index(b"\x1b[?1049l")]
    assert b"\x1b]52" not in window
    assert b"\x1b[2J" not in window
    colours = set(re.findall(rb"\x1b\[([0-9;]*)m", window))
    used = {part for each in colours for part in each.split(b";")}
    assert b"38" not in used, "no colour beyond 16"
    if "NO_COLOR" in environ:
        assert not used & {b"%d" % code for code in (*range(30, 38), *range(40, 48), *range(90, 98))}
