"""docs/reference/limits.md has the limits of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from turnstream.cli.serve import drain_of
from turnstream.config import ProviderSettings, Settings, StoreSettings
from turnstream.core.accumulator import DEFAULT_MAX_LENGTH
from turnstream.dialects.ag_ui.messages import LARGEST_SNAPSHOT
from turnstream.limits import LIMITS
from turnstream.server import bodies, connection
from turnstream.server.context import ServerContext
from turnstream.server.protocols import relay, staged_agent
from turnstream.server.requests import limited_route
from turnstream.store.transient.turn_rows import LARGEST_TURN
from turnstream.store.transient.turns import MAX_ENDED, MAX_ENDED_BYTES
from turnstream.tools.runner import RESULT_LIMIT
from turnstream.turns.registry import MAX_RETAINED, MAX_RETAINED_BYTES
from turnstream.turns.turn_task import STOP_SECONDS
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.workflow import default_stages
from turnstream.workflow.stage import STAGE_SECONDS
from turnstream.workflow.state import MAX_STATE

pytestmark = pytest.mark.fault(45)

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| limit |")
]
_URLS = ("sqlite:///turns.sqlite", "postgresql://user@localhost/turns")
UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "s": 1, "levels": 1, "characters": 1, "": 1}


def value_of(cell: str) -> float:
    number, _, unit = cell.partition(" ")
    return float(number) * UNITS[unit]


FIXED: dict[str, float] = {
    **LIMITS,
    "time of a stage of a workflow, unless the stage sets it": STAGE_SECONDS,
    "the state of a workflow, as JSON": MAX_STATE,
    "rounds in which a workflow gathers context": default_stages.MAX_ROUNDS,
    "messages before a request that a workflow's model gets": default_stages.MAX_HISTORY,
    "characters of a piece of context that a workflow's model gets": default_stages.MAX_ITEM,
    "messages before a question that a relay's model gets": relay.HISTORY,
    "conversations of a page of the staged agent": staged_agent.MAX_LISTED,
    "a snapshot of AG-UI": 2 * LARGEST_SNAPSHOT,
    "a request's line, headers, chunk sizes and trailers": connection.HEAD_LIMIT,
    "time for a request's head": connection.HEAD_SECONDS,
    "time for a request's body": limited_route.BODY_SECONDS,
    "received bytes of a body that extend its time by one second": limited_route.BODY_RATE,
    "memory for all bodies that are being read (the first 64 KiB of each do not count)": bodies.BODIES_LIMIT,
    "a source that does not stop when its turn does": STOP_SECONDS,
    "ended turns in memory": MAX_RETAINED,
    "memory of ended turns": MAX_RETAINED_BYTES,
    "ended turns without rows": MAX_ENDED,
    "memory of ended turns without rows": MAX_ENDED_BYTES,
    "characters of a turn without rows": LARGEST_TURN,
    "characters of one answer of a model": DEFAULT_MAX_LENGTH,
    "characters of a tool's result": RESULT_LIMIT,
}


def test_fixed_limits_are_those_of_the_code() -> None:
    told = {limit: value_of(default) for limit, default, setting, _ in ROWS if setting == "fixed"}
    assert told == FIXED


@pytest.mark.parametrize(
    ("limit", "default", "setting"), [(*row[:2], row[2].strip("`")) for row in ROWS if row[2] != "fixed"]
)
def test_settings_have_the_defaults_that_are_told(limit: str, default: str, setting: str) -> None:
    value: Any = Settings(providers={"name": ProviderSettings()})
    for name in setting.split("."):
        value = value["name"] if name == "NAME" else getattr(value, name)
    if setting == "providers.NAME.event_limit":
        assert value is None
        value = DEFAULT_EVENT_LIMIT
    if setting == "server.drain_seconds":
        assert value is None
        value = drain_of(Settings(store=StoreSettings(url=_URLS["PostgreSQL" in limit])))
    assert value_of(default) == value


def test_every_number_of_the_server_is_told() -> None:
    """A new limit of the server needs a line in the table."""
    told = {row[2].strip("`") for row in ROWS}
    numbers = {
        f"{section}.{name}"
        for section in ("server", "engine")
        for name, field in type(getattr(Settings(), section)).model_fields.items()
        if field.annotation in (int, float) or {int, float} & set(get_args(field.annotation))
    }
    assert numbers - told <= {"server.port"}


def test_the_body_s_limit_is_one_everywhere() -> None:
    assert ServerContext._field_defaults["max_body_bytes"] == Settings().server.max_body_bytes
    assert re.search(r"A body of 20 MiB holds images", PAGE)
