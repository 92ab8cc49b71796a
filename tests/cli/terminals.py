"""Running commands on a pseudo-terminal, as at a user's window."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SECONDS = 60.0


class Shown(NamedTuple):
    """Exit code of a command, and all that it wrote to its terminal."""

    code: int
    text: str


async def on_terminal(
    *arguments: str,
    cwd: Path,
    columns: int = 80,
    typed_after: Mapping[str, bytes] | None = None,
    environ: Mapping[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-m", "turnstream.cli.main"),
) -> Shown:
    """Run a command on a terminal to its end.

    Args:
        columns: the width of the terminal.
        typed_after: keys that are typed once a text has been shown.
    """
    process, ours = await start_on_terminal(*command, *arguments, cwd=cwd, columns=columns, environ=environ)
    waiting = dict(typed_after or {})
    shown = b""
    try:
        async with asyncio.timeout(SECONDS):
            while piece := await asyncio.to_thread(_read, ours):
                shown += piece
                for text in [text for text in waiting if text.encode() in shown]:
                    os.write(ours, waiting.pop(text))
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
    assert not waiting, f"{waiting} was never typed: {shown!r}"
    return Shown(code, shown.decode("utf-8", "surrogateescape"))


async def start_on_terminal(
    *command: str,
    cwd: Path,
    columns: int = 80,
    environ: Mapping[str, str] | None = None,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[asyncio.subprocess.Process, int]:
    """Start a command on a terminal of its own.

    Args:
        prepare: Called in the new process, before the command begins.

    Returns: the process, and the other side of its terminal. The caller closes both.
    """
    ours, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    folders = {f"XDG_{kind.upper()}_HOME": str(cwd / kind) for kind in ("state", "data", "config")}

    def begin() -> None:
        _own_terminal()
        prepare()

    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm-256color", **folders, **(environ or {})},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=begin,  # Ctrl-C reaches the foreground process of the terminal
    )
    os.close(terminal)
    return process, ours


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the answer of Linux once the other side is closed
        return b""
