"""Logging: one line per record on standard error, in UTC, with every known key masked.

Each module logs to `logging.getLogger(__name__)`. As a library, the package adds only a NullHandler. All
records of a turn's task have the turn's id and generation, because the task runs in `turn_context`. A host
application that formats records itself gets them as `record.turn_id` and `record.generation` with the filter
`TurnFields`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import Context, ContextVar, copy_context
from typing import Any, Literal, NamedTuple, TextIO

MASK = "[masked]"
SHORTEST_SECRET = 6
"""Characters of the shortest string that is masked. Masking shorter strings would damage normal text."""
COMPONENTS: dict[str, tuple[str, ...]] = {
    "client": ("client", "providers", "model_loop.driver", "llm.generation"),
    "accumulator": ("turns.writing", "llm.memory_sink"),
    "events": ("server.streams", "turnlog", "llm.live_answer"),
}
"""Short names for groups of modules that operators often debug."""

_ROOT = "turnstream"


class _TurnOfTask(NamedTuple):
    turn_id: str
    generation: int


_turn_of_task: ContextVar[_TurnOfTask | None] = ContextVar("turnstream_turn", default=None)


def turn_context(turn_id: str, generation: int) -> Context:
    """Return a copy of the current context for a turn's task: `create_task(..., context=...)`."""
    context = copy_context()
    context.run(_turn_of_task.set, _TurnOfTask(turn_id, generation))
    return context


class TurnFields(logging.Filter):
    """Adds the attributes `turn_id` and `generation` to records of a turn's task. It drops no record."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (turn := _turn_of_task.get()) is not None:
            record.turn_id, record.generation = turn
        return True


_CONTROL = {
    code: repr(chr(code))[1:-1] for code in (*range(9), *range(10, 32), *range(127, 160), 0x2028, 0x2029)
}
"""Escapes of characters that end a line or control a terminal, so that no message can forge a log line."""
_JSON_CONTROL = {code: f"\\u{code:04x}" for code in _CONTROL if code >= 127}
"""JSON escapes of the control characters that `json.dumps` does not escape."""


def one_line(text: str, limit: int) -> str:
    """Return `text` on one line of at most `limit` characters, with escaped control characters."""
    line = " ".join(text[: 4 * limit].split()).translate(_CONTROL)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


logging.getLogger(_ROOT).addHandler(logging.NullHandler())


TRACEBACK_MARK = "  | "
"""Prefix of each line of a record except the first."""


def _marked(text: str) -> str:
    return "\n".join(TRACEBACK_MARK + line.translate(_CONTROL) for line in text.split("\n"))


class MaskingFormatter(logging.Formatter):
    """Formats a record as text, and masks every secret in it.

    The record is one line. The lines of its traceback begin with `TRACEBACK_MARK`, so that the text of an
    exception cannot look like a record.
    """

    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        longest_first = sorted(
            {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True
        )
        self._secrets = tuple(longest_first)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a name of the logging library
        line = super().formatMessage(record).translate(_CONTROL)
        turn_id: str | None = getattr(record, "turn_id", None)
        return line if turn_id is None else f"{line} [turn {turn_id} {getattr(record, 'generation', '')}]"

    def format(self, record: logging.LogRecord) -> str:
        # `super().format` would cache the exception's text in the record, where other formatters reuse it.
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        parts = [self.formatMessage(record)]
        if record.exc_info:
            parts.append(_marked(self.formatException(record.exc_info)))
        elif record.exc_text:
            parts.append(_marked(record.exc_text))
        if record.stack_info:
            parts.append(_marked(self.formatStack(record.stack_info)))
        return self.masked("\n".join(parts))

    def masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


class JsonFormatter(MaskingFormatter):
    """Formats a record as one line of JSON.

    Its fields are time, level, component and message; turn_id and generation if a turn's task logged it;
    error with the traceback if it has an exception.
    """

    def format(self, record: logging.LogRecord) -> str:
        # Mask before encoding: JSON would escape a quotation mark in a key.
        fields: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "component": record.name.removeprefix(f"{_ROOT}."),
            "message": self.masked(record.getMessage()),
        }
        if (turn_id := getattr(record, "turn_id", None)) is not None:
            fields["turn_id"] = turn_id
            fields["generation"] = getattr(record, "generation", None)
        if record.exc_info:
            fields["error"] = self.masked(self.formatException(record.exc_info))
        line = json.dumps(fields, ensure_ascii=False, default=str).encode("utf-8", "replace").decode()
        return line.translate(_JSON_CONTROL)


def configure_logging(  # noqa: PLR0913 - one parameter for each setting
    level: str = "info",
    *,
    debug: Iterable[str] = (),
    levels: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
    form: Literal["text", "json"] = "text",
) -> None:
    """Configure the package's log. Replace the configuration of an earlier call.

    Args:
        level: Level of components that have no level of their own.
        debug: Components that log at debug level.
        levels: Levels by component. A component is a module path below the package (`turns`,
            `providers.http`) or a short name (`COMPONENTS`).
        secrets: Strings to mask.
        stream: The output. None: standard error.
        form: "text" or "json".
    """
    root = logging.getLogger(_ROOT)
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(secrets) if form == "json" else MaskingFormatter(secrets))
    handler.addFilter(TurnFields())
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False
    for component, own_level in [*(levels or {}).items(), *((name, "debug") for name in debug)]:
        for path in COMPONENTS.get(component, (component.removeprefix(f"{_ROOT}."),)):
            logging.getLogger(f"{_ROOT}.{path}").setLevel(own_level.upper())
