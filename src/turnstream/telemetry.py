"""Logging: one line per record on standard error, UTC, with every known key masked.

Each module logs to `logging.getLogger(__name__)`; as a library the package adds no handler of its own.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from typing import TextIO

MASK = "[masked]"
SHORTEST_SECRET = 6
"""Shorter strings are not masked: they would blot out innocent text, and are no secret."""

_ROOT = "turnstream"


class MaskingFormatter(logging.Formatter):
    """Formats a record, its traceback included, and replaces every secret in the result."""

    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        longest_first = sorted(
            {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True
        )
        self._secrets = tuple(longest_first)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def configure_logging(
    level: str = "info",
    *,
    debug: Iterable[str] = (),
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Send the package's log to `stream` (standard error), replacing what an earlier call set up.

    `debug` names components, as module paths below the package (`turns`, `providers.http`), that log at debug level
    whatever `level` says (requirement F5).
    """
    root = logging.getLogger(_ROOT)
    for handler in list(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(MaskingFormatter(secrets))
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False
    for component in debug:
        logging.getLogger(f"{_ROOT}.{component.removeprefix(_ROOT + '.')}").setLevel(logging.DEBUG)
