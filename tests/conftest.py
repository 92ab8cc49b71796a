"""Fixtures of all tests: a clean environment, the recorded corpus, visible skips, and a check for left
tasks."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

CORPUS_VARIABLE = "TURNSTREAM_CORPUS"
CASES_VARIABLE = "TURNSTREAM_CASES"
NO_SKIPS_VARIABLE = "TURNSTREAM_NO_SKIPS"
SETTLE_SECONDS = 1.0

_OURS = {CORPUS_VARIABLE, CASES_VARIABLE, NO_SKIPS_VARIABLE}


def pytest_configure() -> None:
    """Keep the developer's own settings and keys out of the tests, and so their accounts too."""
    for name in list(os.environ):
        if name not in _OURS and (name.startswith(("TURNSTREAM_", "AWS_")) or name.endswith("_API_KEY")):
            del os.environ[name]
    os.environ["XDG_CONFIG_HOME"] = os.devnull  # without a folder there are no stored keys


def _skips_fail() -> bool:
    return os.environ.get(NO_SKIPS_VARIABLE, "") not in {"", "0"}


def _as_failure(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In the automatic run a skip is a failure: what was not tested is not known to work."""
    if _skips_fail() and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        report.outcome = "failed"
        report.longrepr = f"{NO_SKIPS_VARIABLE} is set, and this was skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _as_failure(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _as_failure(report)
    return report


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of recorded provider streams."""
    folder = os.environ.get(CORPUS_VARIABLE)
    if not folder:
        pytest.skip(f"{CORPUS_VARIABLE} does not name the folder of recordings")
    path = Path(folder)
    assert path.is_dir(), f"{CORPUS_VARIABLE} names {folder}, which is not a folder"
    return path


@pytest.fixture
def restored_loggers() -> Iterator[None]:
    """The package's loggers as they were, whatever the test sets up."""
    root = logging.getLogger("turnstream")
    before, levels = (list(root.handlers), root.propagate), _levels()
    yield
    root.handlers[:], root.propagate = before
    for name in _levels():
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


def _levels() -> dict[str, int]:
    known = logging.root.manager.loggerDict.items()
    return {
        name: logger.level
        for name, logger in known
        if name.split(".")[0] == "turnstream" and isinstance(logger, logging.Logger)
    }


@pytest.fixture(autouse=True)
def _every_task_has_an_owner(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_tasks_end_with_the_test")


@pytest.fixture
async def _tasks_end_with_the_test() -> AsyncIterator[None]:
    """Fail when a task without an owner outlives the test and its fixtures."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=SETTLE_SECONDS)
    assert not left, f"tasks left behind: {sorted(repr(task) for task in left)}"
