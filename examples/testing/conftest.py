"""A simulated provider for every test that asks for one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def simulate(*options: str) -> Iterator[str]:
    """Run `turnstream simulate` on a free port and give its URL."""
    command = shutil.which("turnstream")
    assert command is not None, "turnstream is not installed"
    arguments = [command, "simulate", "--port", "0", *options]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        listens = re.search(r"listens on (\S+)", process.stdout.readline())
        assert listens is not None, "it did not start"
        try:
            yield listens[1]
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def simulator() -> Iterator[str]:
    with simulate() as url:
        yield url


@pytest.fixture
def provider(simulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Points the application at the simulator, whose log is empty."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{simulator}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    urllib.request.urlopen(urllib.request.Request(f"{simulator}/_simulator/requests", method="DELETE"))
    return simulator


@pytest.fixture
def requests_sent(provider: str) -> Callable[[], list[dict]]:
    def ask() -> list[dict]:
        with urllib.request.urlopen(f"{provider}/_simulator/requests") as told:
            return json.load(told)["requests"]

    return ask
