"""The installed package: a wheel in a fresh environment, with its dependencies, and the tutorial's first
program as it is printed."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.running import PROJECT
from tests.docs import pages

SECONDS = 300.0
UV = PROJECT / ".tools" / "bin" / "uv"
KEEPING = """
import asyncio

from turnstream import Engine


async def main() -> None:
    async with Engine("sqlite:///chats.sqlite") as engine:
        turn = await engine.send("Keep this.", model="sim/echo:pace=0")
        print((await turn.wait()).turn.status)


asyncio.run(main())
"""
pytestmark = pytest.mark.timeout(2 * SECONDS)


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables of this project's own environment."""
    own = ("PYTHON", "PYTEST", "VIRTUAL")
    return {key: value for key, value in os.environ.items() if not key.startswith(own)}


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Return the output of a command, in a clean environment."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, PROJECT], PROJECT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` folder of a fresh environment with the wheel."""
    venv = tmp_path_factory.mktemp("fresh") / "venv"
    run([UV, "venv", "--quiet", "--python", PROJECT / ".tools" / "bin" / "python", venv], PROJECT)
    run([UV, "pip", "install", "--quiet", "--python", venv, wheel], PROJECT)
    return venv / "bin"


@pytest.mark.requirement("F1", "R1")
def test_the_first_program_of_the_tutorial(installed: Path, tmp_path: Path):
    first = pages.programs(pages.TUTORIAL / "first-answers.md")[0]
    assert first.output is not None
    file = tmp_path / "first.py"
    file.write_text(first.source.text, encoding="utf-8")
    printed = run([installed / "python", "-W", "error", file], tmp_path)
    assert pages.fits(first.output, printed), printed
    assert "> Why is the sky blue?" in printed


def test_the_command(installed: Path, tmp_path: Path):
    assert run([installed / "turnstream", "--version"], tmp_path).startswith("turnstream 0.")
    assert run([installed / "turnstream", "ask", "-m", "sim/echo:pace=0", "Hi"], tmp_path).strip() == "Hi"


@pytest.mark.requirement("R1")
def test_the_server(installed: Path, tmp_path: Path):
    command = [installed / "turnstream", "serve", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            words = server.stdout.readline().split()
            assert words[:3] == ["turnstream", "listens", "on"]
            asked = run(
                [installed / "turnstream", "ask", "--url", words[3], "-m", "sim/echo", "Hi"], tmp_path
            )
        finally:
            server.terminate()
            rest, _ = server.communicate(timeout=SECONDS)
    assert asked.strip() == "Hi"
    assert rest.endswith("turnstream stopped\n")
    assert server.returncode == 0


def test_a_turn_is_stored(installed: Path, tmp_path: Path):
    assert run([installed / "python", "-c", KEEPING], tmp_path) == "complete\n"
    assert (tmp_path / "chats.sqlite").stat().st_size > 0


def test_the_wheel_holds_every_file(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("turnstream/")}
    written = run(["git", "ls-files", "src/turnstream"], PROJECT).split()
    page = (path for path in (PROJECT / "src/turnstream/server/page/built").rglob("*") if path.is_file())
    built = {path.relative_to(PROJECT / "src").as_posix() for path in page}
    assert packed == {name.removeprefix("src/") for name in written} | built
    assert "turnstream/server/page/built/index.html" in packed
    assert "turnstream/py.typed" in packed
