"""Settings of the server and the library."""

from __future__ import annotations

from turnstream.config.loading import load_settings, misspelt_variables, read_provider
from turnstream.config.sections import (
    AgentSettings,
    AuditSettings,
    CapabilitySettings,
    EngineSettings,
    ModelSettings,
    NodeSettings,
    PriceSettings,
    ProviderSettings,
    RedactionSettings,
    RetrySettings,
    ServerSettings,
    Settings,
    StoreSettings,
    StreamSettings,
    TelemetrySettings,
    Timeouts,
    ToolSettings,
)

__all__ = [
    "AgentSettings",
    "AuditSettings",
    "CapabilitySettings",
    "EngineSettings",
    "ModelSettings",
    "NodeSettings",
    "PriceSettings",
    "ProviderSettings",
    "RedactionSettings",
    "RetrySettings",
    "ServerSettings",
    "Settings",
    "StoreSettings",
    "StreamSettings",
    "TelemetrySettings",
    "Timeouts",
    "ToolSettings",
    "load_settings",
    "misspelt_variables",
    "read_provider",
]
