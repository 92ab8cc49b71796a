"""The simulator as a provider for the `Catalog` of engine and library."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from turnstream.providers.catalog import InProcessProvider
from turnstream.simulator.in_process import SimulatedProvider
from turnstream.simulator.options import SCRIPT_NAMES

SIMULATOR: Mapping[str, InProcessProvider] = MappingProxyType(
    {"sim": InProcessProvider(SimulatedProvider, "anthropic", SCRIPT_NAMES)}
)
"""Provider `sim`. Its first script, `sim/demo`, is the default model if no other provider is ready."""
