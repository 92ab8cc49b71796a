from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from turnstream.config import load_settings
from turnstream.telemetry import MASK, TurnFields, configure_logging, turn_context
from turnstream.telemetry.measures import MOST_CODES, MOST_MODELS, Histogram, TurnMeasures

pytestmark = pytest.mark.usefixtures("restored_loggers")


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


@pytest.mark.requirement("F5")
def test_debug_is_chosen_per_component():
    stream = io.StringIO()
    configure_logging("warning", debug=["turns"], stream=stream)
    logging.getLogger("turnstream.turns.executor").debug("shown")
    logging.getLogger("turnstream.providers").info("hidden")
    assert stream.getvalue().splitlines()[0].endswith("DEBUG   turnstream.turns.executor: shown")
    assert "hidden" not in stream.getvalue()


@pytest.mark.requirement("K3")
def test_a_providers_words_are_no_line_of_ours():
    stream = io.StringIO()
    configure_logging(stream=stream)
    logging.getLogger("turnstream.turns").warning(
        "failed: %s", "no\r\n2026 ERROR forged\x1b[2J \u2028 über\t!"
    )
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("failed: no\\r\\n2026 ERROR forged\\x1b[2J \\u2028 über\t!")


def test_a_second_set_up_replaces_the_first():
    first, second = io.StringIO(), io.StringIO()
    configure_logging(stream=first)
    configure_logging(stream=second)
    logging.getLogger("turnstream").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


@pytest.mark.requirement("F5")
def test_each_component_may_have_its_own_level():
    settings = load_settings(
        environ={
            "TURNSTREAM_TELEMETRY__LOG_LEVEL": "error",
            "TURNSTREAM_TELEMETRY__LEVELS__PROVIDERS.HTTP": "warning",
            "TURNSTREAM_TELEMETRY__DEBUG": "accumulator, events",
            "TURNSTREAM_TELEMETRY__FORMAT": "json",
        }
    ).telemetry
    stream = io.StringIO()
    configure_logging(
        settings.log_level, debug=settings.debug, levels=settings.levels, stream=stream, form=settings.format
    )
    for component in ("providers.http", "providers.catalog", "turns.writing", "server.streams"):
        logging.getLogger(f"turnstream.{component}").warning("warned")
        logging.getLogger(f"turnstream.{component}").debug("in detail")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["component"], line["level"]) for line in lines] == [
        ("providers.http", "warning"),
        ("turns.writing", "warning"),
        ("turns.writing", "debug"),
        ("server.streams", "warning"),
        ("server.streams", "debug"),
    ]


@pytest.mark.requirement("K3")
def test_a_line_of_json_holds_everything_and_no_key():
    stream = io.StringIO()
    secret = 'sk-"quoted"-secret'
    configure_logging(secrets=[secret], stream=stream, form="json")
    try:
        raise ValueError(f"401 for {secret}")
    except ValueError:
        logging.getLogger("turnstream.providers.http").exception("a\nb %s \ud800", secret)
    [line] = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told["message"] == f"a\nb {MASK} ?"
    assert told["error"].endswith(f"ValueError: 401 for {MASK}")
    assert (told["level"], told["component"]) == ("error", "providers.http")
    assert "turn_id" not in told
    assert told["time"].endswith("Z")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.requirement("F5")
async def test_lines_of_a_task_tell_whose_turn_it_is(form: str):
    stream = io.StringIO()
    configure_logging(stream=stream, form=form)  # type: ignore[arg-type]
    logger = logging.getLogger("turnstream.turns.executor")

    async def write(text: str) -> None:
        await asyncio.sleep(0)
        logger.info(text)

    loop = asyncio.get_running_loop()
    await asyncio.gather(
        loop.create_task(write("one"), context=turn_context("turn-1", 11)),
        loop.create_task(write("two"), context=turn_context("turn-2", 22)),
        write("none"),
    )
    lines = stream.getvalue().splitlines()
    if form == "json":
        told = [
            (line["message"], line.get("turn_id"), line.get("generation")) for line in map(json.loads, lines)
        ]
        assert sorted(told, key=str) == [("none", None, None), ("one", "turn-1", 11), ("two", "turn-2", 22)]
    else:
        endings = sorted(line.partition("executor: ")[2] for line in lines)
        assert endings == ["none", "one [turn turn-1 11]", "two [turn turn-2 22]"]


def test_a_host_may_have_the_turn_as_fields_of_its_own_records():
    record = logging.LogRecord("any", logging.INFO, __file__, 1, "said", (), None)
    assert turn_context("turn-3", 33).run(TurnFields().filter, record)
    assert (vars(record)["turn_id"], vars(record)["generation"]) == ("turn-3", 33)


def test_a_histogram_counts_each_value_once_and_adds_up():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 7.0):
        histogram.observe(value)
    assert histogram.cumulative() == [(1.0, 2), (2.0, 4), (float("inf"), 5)]
    assert histogram.total == 12.0


def test_names_from_outside_do_not_grow_without_bound():
    measures = TurnMeasures()
    for number in range(1000):
        measures.of_model(f"acme/model-{number}").calls += 1
        measures.count_end("error", f"code-{number}")
    assert len(measures.models) == MOST_MODELS + 1
    assert measures.models["other", "other"].calls == 1000 - MOST_MODELS
    assert sum(model.calls for model in measures.models.values()) == 1000
    assert len(measures.ended) == MOST_CODES + 1
    assert measures.ended["error", "other"] == 1000 - MOST_CODES
