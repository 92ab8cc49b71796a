"""`turnstream stats`: tokens, cost, times and errors of model calls, by model."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from turnstream.cli.command import Command
from turnstream.cli.history.place_options import add_place
from turnstream.errors import ConfigurationError

if TYPE_CHECKING:
    from turnstream.core.statistics.records import UsageStatistics

MOST_DAYS = 366


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--days", type=int, default=30, help="the last days, today included (default: 30)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with each day")
    add_place(parser)


def run(arguments: Namespace) -> int:
    import asyncio

    if not 1 <= arguments.days <= MOST_DAYS:
        raise ConfigurationError(f"--days has to be 1 to {MOST_DAYS}")
    asyncio.run(_run(arguments))
    return 0


async def _run(arguments: Namespace) -> None:
    from datetime import UTC, datetime, timedelta
    from typing import Any

    import msgspec

    from turnstream.cli.history.api_reader import open_reader
    from turnstream.cli.terminal import Piece, Screen
    from turnstream.core.statistics.records import UsageStatistics

    today = datetime.now(UTC).date()
    first_day = (today - timedelta(days=arguments.days - 1)).isoformat()
    async with open_reader(arguments) as reader:
        found = await reader.get("/stats", dict[str, Any], first_day=first_day, last_day=today.isoformat())
    if arguments.json:
        text = msgspec.json.encode(found).decode()
    else:
        text = "\n".join(table(msgspec.convert(found, UsageStatistics)))
    Screen().write([Piece(f"{text}\n")])


def table(found: UsageStatistics) -> list[str]:
    """Return lines: the turns of the range, and a table with a row for each model."""
    rows = [("MODEL", "CALLS", "ERRORS", "INPUT", "OUTPUT", "COST USD", "FIRST p50/p95 s", "TOKENS/s p50")]
    for model in found.models:
        first, speed = model.first_output, model.speed
        rows.append(
            (
                model.model,
                f"{model.calls:,}",
                f"{model.errors:,}",
                f"{model.input_tokens:,}",
                f"{model.output_tokens:,}",
                f"{model.cost}{'+?' if model.unpriced else ''}",
                "-" if first is None else f"{first.p50:.2f}/{first.p95:.2f}",
                "-" if speed is None else f"{speed.p50:.1f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    turns = ", ".join(f"{count:,} {status}" for status, count in _counts(found))
    return [
        f"{found.first_day} to {found.last_day}: {turns} turns",
        *(
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
                ]
            )
            for row in rows
        ),
    ]


def _counts(found: UsageStatistics) -> list[tuple[str, int]]:
    import msgspec

    return list(msgspec.to_builtins(found.turns).items())


COMMAND = Command(
    "stats",
    "show tokens, cost, times and errors by model",
    "turnstream stats\nturnstream stats --days 7 --json\nturnstream stats --url http://127.0.0.1:8089",
    add_arguments,
    run,
)
