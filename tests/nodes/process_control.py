"""Signals to a process and all its children: killed, stopped as a machine that sleeps, continued, drained."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


def kill(pid: int) -> None:
    """End a process as `kill -9` does."""
    os.kill(pid, signal.SIGKILL)


def terminate(pid: int) -> None:
    """Ask a process to end, as a deploy does."""
    os.kill(pid, signal.SIGTERM)


def pause(pid: int) -> None:
    """Stop a process and its children. They keep their connections, and answer nothing."""
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    # A child that the parent made meanwhile is stopped by the second pass: a stopped parent makes none.
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            process.suspend()


def resume(pid: int) -> None:
    """Let a paused process and its children continue."""
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            process.resume()


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Keep a process and its children stopped inside the block."""
    pause(pid)
    try:
        yield
    finally:
        resume(pid)


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
