from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from turnstream.telemetry import MASK, configure_logging


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    root = logging.getLogger("turnstream")
    before = (list(root.handlers), root.level, root.propagate)
    yield
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])
    logging.getLogger("turnstream.turns").setLevel(logging.NOTSET)


@pytest.mark.requirement("K3")
def test_keys_are_masked_in_messages_arguments_and_tracebacks():
    stream = io.StringIO()
    configure_logging(secrets=["sk-secret", "sk-secret-longer", "ab"], stream=stream)
    logger = logging.getLogger("turnstream.providers.http")
    try:
        raise ValueError("401 for sk-secret-longer")
    except ValueError:
        logger.exception("call with %s failed, about", "sk-secret")
    text = stream.getvalue()
    assert "sk-secret" not in text
    assert f"call with {MASK} failed, about" in text
    assert f"ValueError: 401 for {MASK}\n" in text


def test_debug_is_chosen_per_component():
    stream = io.StringIO()
    configure_logging("warning", debug=["turns"], stream=stream)
    logging.getLogger("turnstream.turns.executor").debug("shown")
    logging.getLogger("turnstream.providers").info("hidden")
    assert stream.getvalue().splitlines()[0].endswith("DEBUG   turnstream.turns.executor: shown")
    assert "hidden" not in stream.getvalue()


def test_a_second_set_up_replaces_the_first():
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging(stream=second)
    logging.getLogger("turnstream").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
