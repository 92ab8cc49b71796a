"""The client of web/client against the real server: what it ends up with is what the server has stored."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.web.browser_client import CLIENT, PACKAGES, build_client, run_case, run_node

SCRIPT = Path(__file__).with_name("client_cases.mjs")
CASES = re.findall(r"^  async (\w+)\(", SCRIPT.read_text("utf-8"), re.MULTILINE)


@pytest.fixture
async def client(tmp_path: Path) -> Path:
    """The folder of the built client."""
    return await build_client(tmp_path)


@pytest.mark.requirement("J6", "M1", "M2", "M3", "R3")
@pytest.mark.parametrize("name", CASES)
async def test_case(name: str, client: Path, tmp_path: Path) -> None:
    await run_case(SCRIPT, name, client, tmp_path)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("conformance.test.ts", marks=pytest.mark.requirement("R3")),
        # Deltas of one frame are drawn once.
        pytest.param("react.test.tsx", marks=pytest.mark.requirement("M1")),
    ],
)
async def test_its_own_tests(file: str) -> None:
    output = await run_node(PACKAGES / "vitest" / "vitest.mjs", "run", f"tests/{file}", cwd=CLIENT)
    assert f"tests/{file}" in output
