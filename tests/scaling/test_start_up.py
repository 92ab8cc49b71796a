"""The first byte of an answer comes soon after the start of `turnstream ask`.

The measure is the import of httpx in the same interpreter, as other clients of models do it. All programs run
in turn, so a busy machine slows each of them down.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.requirement("L7")
REPETITIONS = 9
_ROUNDS = 3
"""Rounds of measurement. Other processes only add to a time, so the best round counts."""
_MEASURE = (sys.executable, "-c", "import httpx; print(1)")
_ASK = (sys.executable, "-m", "turnstream.cli.main", "ask", "Hello", "-m", "sim/echo:pace=0")


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of all programs: their bytecode is stored, as that of an installed package is."""
    folder = tmp_path_factory.mktemp("start")
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "XDG_STATE_HOME": str(folder / "state")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environ: Mapping[str, str]) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    command = (sys.executable, "-m", "turnstream.cli.main", "serve", "--port", "0")
    with (
        (folder / "errors.log").open("wb") as errors,
        subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        found = (re.search(r"listens on (http://\S+)", line) for line in process.stdout)
        yield next(match[1] for match in found if match)
        process.terminate()


def test_a_server_answers_soon(server: str, environ: Mapping[str, str], tmp_path: Path) -> None:
    _check((*_ASK, "--url", server), 3.0, environ, tmp_path)


def test_the_process_itself_answers_soon(environ: Mapping[str, str], tmp_path: Path) -> None:
    _check(_ASK, 6.0, environ, tmp_path)


def _check(command: Sequence[str], limit: float, environ: Mapping[str, str], folder: Path) -> None:
    for program in (_MEASURE, command):  # the first run of a program stores its bytecode
        _first_byte(program, environ, folder)
    ratios: list[float] = []
    for _ in range(_ROUNDS):
        times = [(_first_byte(_MEASURE, environ, folder), _first_byte(command, environ, folder))
                 for _ in range(REPETITIONS)]  # fmt: skip
        measure, asked = (statistics.median(column) for column in zip(*times, strict=True))
        ratios.append(asked / measure)
        if ratios[-1] <= limit:
            return
    pytest.fail(f"the first byte came after {min(ratios):.2f} × the import of httpx; the limit is {limit}")


def _first_byte(command: Sequence[str], environ: Mapping[str, str], folder: Path) -> float:
    """Return the seconds from the start of a program to the first byte that it writes."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - began
        _, errors = process.communicate(timeout=60)
    assert first, errors.decode()
    return seconds
