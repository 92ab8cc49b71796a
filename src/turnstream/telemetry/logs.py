"""Logging: one line per record on standard error, UTC, with every known key masked.

Each module logs to `logging.getLogger(__name__)`; as a library the package adds no handler of its own, but for one that keeps
Python from printing warnings of a program that configures no logging. Lines that are
written in a turn's task, whoever writes them, carry the turn's id and generation: the task runs in `turn_context`. A host
application that formats records itself gets both as `record.turn_id` and `record.generation` with the filter `TurnFields`.
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
"""Shorter strings are not masked: they would blot out innocent text, and are no secret."""
COMPONENTS: dict[str, tuple[str, ...]] = {
    "client": ("client", "providers", "model_loop.driver", "llm.generation"),
    "accumulator": ("turns.writing", "llm.memory_sink"),
    "events": ("server.streams", "turnlog", "llm.live_answer"),
}
"""Short names for what people ask about most, beside the module paths that name everything."""

_ROOT = "turnstream"


class _TurnOfTask(NamedTuple):
    turn_id: str
    generation: int


_turn_of_task: ContextVar[_TurnOfTask | None] = ContextVar("turnstream_turn", default=None)


def turn_context(turn_id: str, generation: int) -> Context:
    """A copy of the current context in which every record is the turn's. For `create_task(..., context=...)`."""
    context = copy_context()
    context.run(_turn_of_task.set, _TurnOfTask(turn_id, generation))
    return context


class TurnFields(logging.Filter):
    """Lets every record through, and gives those of a turn's task the attributes `turn_id` and `generation`."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (turn := _turn_of_task.get()) is not None:
            record.turn_id, record.generation = turn
        return True


_CONTROL = {
    code: repr(chr(code))[1:-1] for code in (*range(9), *range(10, 32), *range(127, 160), 0x2028, 0x2029)
}
"""Characters that would end a line or steer a terminal: a provider's words must not look like a line of ours."""
_JSON_CONTROL = {code: f"\\u{code:04x}" for code in _CONTROL if code >= 127}
"""Those that JSON leaves as they are, as its escapes."""


def one_line(text: str, limit: int) -> str:
    """Return `text` on one line of at most `limit` characters, whoever formats it: without what ends a line or steers a
    terminal."""
    line = " ".join(text[: 4 * limit].split()).translate(_CONTROL)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


logging.getLogger(_ROOT).addHandler(logging.NullHandler())


TRACEBACK_MARK = "  | "
"""Beginning of each line that is not a record's first."""


def _marked(text: str) -> str:
    return "\n".join(TRACEBACK_MARK + line.translate(_CONTROL) for line in text.split("\n"))


class MaskingFormatter(logging.Formatter):
    """Formats a record for people, and replaces every secret in the result. The record is one line; its traceback follows
    on lines of their own, which begin with `TRACEBACK_MARK`, so that no exception's text looks like a record."""

    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        longest_first = sorted(
            {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True
        )
        self._secrets = tuple(longest_first)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        line = super().formatMessage(record).translate(_CONTROL)
        turn_id: str | None = getattr(record, "turn_id", None)
        return line if turn_id is None else f"{line} [turn {turn_id} {getattr(record, 'generation', '')}]"

    def format(self, record: logging.LogRecord) -> str:
        # The library's own `format` keeps the text of an exception in the record, for other formatters as they made it.
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
    """Formats a record as one line of JSON: time, level, component, message; turn_id and generation for a turn's; error
    with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        # Masked before it is encoded: a quotation mark in a key looks different afterwards.
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


def configure_logging(  # noqa: PLR0913 - one for each setting
    level: str = "info",
    *,
    debug: Iterable[str] = (),
    levels: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
    form: Literal["text", "json"] = "text",
) -> None:
    """Send the package's log to `stream` (standard error), replacing what an earlier call set up.

    `levels` gives components, as module paths below the package (`turns`, `providers.http`) or short names
    (`COMPONENTS`), a level of their own whatever `level` says; `debug` names those at debug level.
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
