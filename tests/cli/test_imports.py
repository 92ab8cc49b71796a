"""Modules that the start of a command loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.programs import run
from tests.server.live import serving
from turnstream.engine import Engine

_COMMAND = """
import atexit, os, sys
for name in [name for name in os.environ if name.startswith("TURNSTREAM_")]:
    del os.environ[name]  # the suite's own: an unknown name would load the settings
os.environ["TURNSTREAM_API_KEY"] = "k"
def report():
    loaded = {name.partition(".")[0] for name in sys.modules} | set(sys.modules)
    print("loaded:", *sorted(loaded), file=sys.stderr)
atexit.register(report)
from turnstream.cli.main import main
sys.exit(main())
"""


async def _loaded(*arguments: str, cwd: Path) -> set[str]:
    """Return the modules that a command has loaded at its end."""
    script = cwd / "command.py"
    script.write_text(_COMMAND)
    ended = await run(*arguments, cwd=cwd, program=script)
    assert ended.code == 0, ended.errors
    (line,) = [line for line in ended.errors.splitlines() if line.startswith("loaded:")]
    return set(line.split()[1:])


@pytest.mark.requirement("L7")
async def test_a_question_to_a_server_loads_no_engine(tmp_path: Path) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        loaded = await _loaded(
            "ask", "Hello", "-m", "sim/echo:pace=0", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path
        )
    assert "aiohttp" in loaded, "the client is loaded: the list is that of the command's end"
    heavy = {"alembic", "fastapi", "prometheus_client", "pydantic", "sqlalchemy", "starlette", "uvicorn"}
    ours = {f"turnstream.{name}" for name in ("config", "engine", "providers", "server", "store", "wires")}
    assert loaded & (heavy | ours) == set()


async def test_a_question_in_the_process_loads_no_server(tmp_path: Path) -> None:
    loaded = await _loaded("ask", "Hello", "-m", "sim/echo:pace=0", cwd=tmp_path)
    assert "sqlalchemy" in loaded
    assert not loaded & {"aiohttp", "fastapi", "prometheus_client", "turnstream.server.all_routes", "uvicorn"}
    assert "turnstream.wires.anthropic.wire" in loaded
    assert "turnstream.wires.gemini.wire" not in loaded, "only the wires that are called are loaded"


async def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = await _loaded("ask", "--help", cwd=tmp_path)
    assert not loaded & {"aiohttp", "asyncio", "msgspec", "pydantic", "sqlalchemy"}
