"""The supervisor of workers: children that are not its own, and signals at any moment. Real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DEADLINE = 30.0

_PROGRAM = """
import os, signal, sys
from turnstream.cli.workers import become_worker
{before}
number = become_worker(2)
os.write(1, b"worker %d\\n" % number)
signal.pause()
"""
_OTHER_CHILD = """
if os.fork() == 0:
    os._exit(0)
"""
_SIGNAL_BEFORE_FORK = """
mask = signal.pthread_sigmask
def late(how, numbers):
    if how == signal.SIG_BLOCK:
        signal.pthread_sigmask = mask
        os.kill(os.getpid(), signal.SIGTERM)
    return mask(how, numbers)
signal.pthread_sigmask = late
"""


@contextmanager
def supervisor(before: str) -> Iterator[subprocess.Popen[str]]:
    program = _PROGRAM.format(before=before)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_child_that_is_no_worker_may_end():
    """A script that starts the server, and a container's first process, have such children."""
    with supervisor(_OTHER_CHILD) as process:
        assert process.stdout is not None
        assert {process.stdout.readline() for _ in range(2)} == {"worker 0\n", "worker 1\n"}
        process.terminate()
        _, said = process.communicate(timeout=DEADLINE)
    assert (process.returncode, said) == (0, "")


def test_a_signal_right_before_a_fork_starts_no_worker():
    """Such a worker would not get the signal, and the command would wait for it."""
    with supervisor(_SIGNAL_BEFORE_FORK) as process:
        seen, said = process.communicate(timeout=DEADLINE)
    assert (process.returncode, seen, said) == (0, "", "")
