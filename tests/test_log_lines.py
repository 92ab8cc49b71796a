"""No text of an exception, a provider or a client looks like a line of the log."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable

import pytest

from turnstream.telemetry import configure_logging
from turnstream.telemetry.logs import TRACEBACK_MARK

pytestmark = [pytest.mark.fault(49), pytest.mark.usefixtures("restored_loggers")]

FORGED = "2026-11-29T00:00:00.000Z ERROR   turnstream.server: the key is gone"
ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2K\x1b[1A"]
RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ +turnstream\.")
logger = logging.getLogger("turnstream.test")


def raised(text: str) -> BaseException:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def chained(text: str) -> BaseException:
    try:
        raise RuntimeError("outer") from raised(text)
    except RuntimeError as error:
        return error


def grouped(text: str) -> BaseException:
    return ExceptionGroup(text, [raised(text), chained(text)])


def noted(text: str) -> BaseException:
    error = raised("x")
    error.add_note(text)
    return error


KINDS: list[Callable[[str], BaseException]] = [raised, chained, grouped, noted]
each_end = pytest.mark.parametrize("end", ENDS, ids=[repr(end)[1:-1].replace("\\", "") for end in ENDS])


def written(log: Callable[[], None], form: str = "text") -> str:
    stream = io.StringIO()
    configure_logging("debug", stream=stream, form="json" if form == "json" else "text")
    log()
    return stream.getvalue()


@each_end
@pytest.mark.parametrize("kind", KINDS)
def test_a_traceback_forges_no_line(kind: Callable[[str], BaseException], end: str) -> None:
    error = kind(f"lost{end}{FORGED}")
    text = written(lambda: logger.error("it failed", exc_info=error))
    first, *others = text.removesuffix("\n").split("\n")
    assert RECORD.match(first)
    assert others
    assert all(line.startswith(TRACEBACK_MARK) for line in others)
    assert text.splitlines() == text.split("\n")[:-1]  # nothing else ends a line for any reader
    assert "\x1b" not in text


@each_end
def test_text_that_another_formatter_left_and_stacks_forge_none(end: str) -> None:
    def log() -> None:
        record = logger.makeRecord(logger.name, logging.ERROR, "f", 1, f"m{end}{FORGED}", (), None)
        record.exc_text = f"Traceback{end}{FORGED}"
        record.stack_info = f"Stack{end}{FORGED}"
        logger.handle(record)

    lines = written(log).splitlines()
    assert [bool(RECORD.match(line)) for line in lines] == [True] + [False] * (len(lines) - 1)


@each_end
@pytest.mark.parametrize("kind", KINDS)
def test_a_json_line_is_one_line_for_every_reader(kind: Callable[[str], BaseException], end: str) -> None:
    error = kind(f"lost{end}{FORGED}")
    text = written(lambda: logger.error("it%s failed", end, exc_info=error), form="json")
    assert text.endswith("\n")
    (line,) = text.splitlines()
    fields = json.loads(line)
    assert fields["message"] == f"it{end} failed"
    assert FORGED in fields["error"]


def test_the_record_is_not_changed_for_other_formatters() -> None:
    record = logger.makeRecord(logger.name, logging.ERROR, "f", 1, "m", (), None)
    error = raised("x")
    record.exc_info = (type(error), error, error.__traceback__)
    written(lambda: logger.handle(record))
    assert record.exc_text is None
