"""The page in a real Chromium, against a real server: `web/app/tests/browser` has the tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from tests.clients.javascript.witnesses import NODE
from tests.clients.running import PROJECT

APP = PROJECT / "web" / "app"
BUILT = PROJECT / "src" / "turnstream" / "server" / "page" / "built" / "index.html"
SECONDS = 400.0

if shutil.which("chromium") is None:
    pytest.skip("there is no Chromium: install Debian's package chromium", allow_module_level=True)


def run(name: str, report: Path) -> tuple[dict[str, str], list[str]]:
    """Run a file of browser tests. Return the state of each test by its name, and the measured figures."""
    assert BUILT.exists(), "the page is not built: `make page` builds it"
    vitest = PROJECT / "web" / "node_modules" / "vitest" / "vitest.mjs"
    options = (
        "--config",
        "vitest.browser.config.ts",
        "--reporter=default",
        "--reporter=json",
        f"--outputFile={report}",
    )
    search = os.pathsep.join((str(NODE.parent), os.environ["PATH"]))
    done = subprocess.run(
        (NODE, vitest, "run", *options, f"tests/browser/{name}.test.ts"),
        cwd=APP,
        env={**os.environ, "PATH": search, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text("utf-8"))
    tests = [test for file in found["testResults"] for test in file["assertionResults"]]
    failures = [message for test in tests for message in test["failureMessages"]]
    failures += [file["message"] for file in found["testResults"] if file["message"]]
    assert not failures, "\n".join(failures)
    measured = [line for line in done.stdout.splitlines() if line.startswith("measured: ")]
    return {test["title"]: test["status"] for test in tests}, measured


@pytest.mark.timeout(SECONDS + 20)
@pytest.mark.requirement("M2", "R2")
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("chat", 20),
        ("input", 10),
        ("resilience", 6),
        ("safety", 4),
        ("look", 11),
        ("long", 2),
        ("states", 10),
        ("stats", 7),
        ("deltas", 1),
    ],
)
def test_the_page_in_a_browser(
    name: str, least: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = perf_counter()
    states, measured = run(name, tmp_path / "report.json")
    with capsys.disabled():
        # The figures belong to the automatic run's output.
        print(f"\nbrowser tests of {name}: {perf_counter() - began:.0f} s", *measured, sep="\n")  # noqa: T201
    assert len(states) >= least
    assert set(states.values()) == {"passed"}, states
