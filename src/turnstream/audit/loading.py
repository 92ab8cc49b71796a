"""The audit log that the settings describe, and the parts of an engine that write to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from turnstream.access import secrets_of
from turnstream.audit.audited_store import AuditedStore
from turnstream.audit.audited_tools import AuditedTools
from turnstream.audit.trail import AuditTrail
from turnstream.config import AuditSettings, Settings
from turnstream.store.base import Store
from turnstream.telemetry import MaskingFormatter
from turnstream.tools.runner import ToolRunner


class AuditedParts(NamedTuple):
    """A store and a runner of tools. Without an audit log, they are those that were given.

    `note_refusal`: takes the address of a client whose key was refused.
    """

    trail: AuditTrail | None
    store: Store
    tools: ToolRunner
    note_refusal: Callable[[str | None], None] | None = None


def audited_parts(
    settings: AuditSettings | None, store: Store, tools: ToolRunner, keys: Settings
) -> AuditedParts:
    """Return the audit log of the settings, with a store and a runner of tools that write to it.

    Args:
        keys: Settings whose keys are masked in the log.
    """
    if settings is None or settings.path is None:
        return AuditedParts(None, store, tools)
    mask = MaskingFormatter(secrets_of(keys)).masked
    trail = AuditTrail(settings.path, max_bytes=settings.max_bytes, mask=mask)
    return AuditedParts(trail, AuditedStore(store, trail), AuditedTools(tools, trail), trail.note_refused_key)
