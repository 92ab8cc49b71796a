"""Finds the background server of this user, or starts it."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import suppress

from filelock import FileLock, Timeout

from turnstream.cli.background.place import BackgroundPlace
from turnstream.errors import TurnstreamError
from turnstream.user_folders import PRIVATE

START_SECONDS = 30.0
"""Seconds that a server has to start."""


def find_or_start(place: BackgroundPlace, *, idle_seconds: float, config: str | None = None) -> None:
    """Return when a server answers at `place`. Of several processes that call this at once, one starts it.

    Args:
        place: The place of the server.
        idle_seconds: Seconds without clients and turns after which a new server ends.
        config: Path of the settings of a new server. None: the default.

    Raises TurnstreamError if the server does not start.
    """
    if place.answers():
        return
    try:
        with FileLock(place.lock_path, timeout=START_SECONDS, mode=0o600):
            if not place.answers():
                _start(place, idle_seconds, config)
    except Timeout as error:
        raise TurnstreamError(
            f"another process has been starting the background server for {START_SECONDS:.0f} s: "
            f"{place.lock_path}",
            code="not_started",
        ) from error


def _start(place: BackgroundPlace, idle_seconds: float, config: str | None) -> None:
    command = [sys.executable, "-m", "turnstream.cli.background.serving", f"--idle-seconds={idle_seconds}"]
    if config is not None:
        command.append(f"--config={config}")
    place.log_path.unlink(missing_ok=True)
    place.log_path.touch(mode=PRIVATE)
    # The server writes to the pipe when it is ready. If it ends before, the pipe is closed.
    ready, begun = os.pipe()
    try:
        try:
            # A launcher that does not end is killed. Its end of the pipe is then closed, as after a failure.
            with place.log_path.open("ab") as log, suppress(subprocess.TimeoutExpired):
                subprocess.run(  # noqa: S603 - this Python, with fixed arguments
                    [*command, f"--ready-descriptor={begun}"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=[begun],
                    timeout=START_SECONDS,  # the server itself is not a child of this process
                    check=False,
                )
        finally:
            os.close(begun)
        readable, _, _ = select.select([ready], [], [], START_SECONDS)
        started = bool(readable and os.read(ready, 1))
    finally:
        os.close(ready)
    if not started:
        said = "\n".join(place.log_path.read_text(errors="replace").strip().splitlines()[-5:])
        raise TurnstreamError(
            f"the background server does not start: {said or place.log_path}", code="not_started"
        )
