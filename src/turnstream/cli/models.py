"""`turnstream models`: what turns may name, and what each needs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from turnstream.cli.command import Command, add_config
from turnstream.cli.terminal import bold, dim

if TYPE_CHECKING:
    from turnstream.config import ProviderSettings, Settings
    from turnstream.providers.catalog import ListedModel


def add_arguments(parser: ArgumentParser) -> None:
    add_config(parser)


def run(arguments: Namespace) -> int:
    from turnstream.config import load_settings
    from turnstream.providers.catalog import Catalog

    settings = load_settings(arguments.config)
    catalog = Catalog(settings.providers, default_model=settings.engine.default_model)
    for line in table(catalog.models(), settings):
        print(line)
    return 0


def table(models: Sequence[ListedModel], settings: Settings) -> list[str]:
    """A line per model: its name, its wire, and whether it can be called or what is missing; ready ones first."""
    width = max(len(model.id) for model in models)
    wires = max(len(model.wire) for model in models)
    lines: list[str] = []
    for model in sorted(models, key=lambda model: (not model.default, not model.ready)):
        if model.ready:
            note = "default" if model.default else "ready"
            note += ", simulated" if model.provider == "sim" else ""
            lines.append(f"{bold(model.id.ljust(width))}  {model.wire:<{wires}}  {note}")
        else:
            note = f"needs {needed(settings, model)}"
            lines.append(
                dim(
                    f"{model.id:<{width}}  {model.wire:<{wires}}  {note}{', default' if model.default else ''}"
                )
            )
    return lines


def needed(settings: Settings, model: ListedModel) -> str:
    """What a model lacks."""
    from turnstream.providers.catalog import SIGNED_WIRE
    from turnstream.wires.botocore_library import is_installed

    if model.wire != SIGNED_WIRE:
        return key_variable(settings, model.provider)
    if not is_installed():
        return "pip install 'turnstream[bedrock]'"
    return f"{key_variable(settings, model.provider)}, or AWS credentials and AWS_REGION"


def key_variable(settings: Settings, provider: str) -> str:
    """The environment variable that holds a provider's key."""
    from turnstream.providers.catalog import BUILT_IN

    described: Sequence[ProviderSettings | None] = (settings.providers.get(provider), BUILT_IN.get(provider))
    names = (settings_of.api_key_env for settings_of in described if settings_of is not None)
    return next((name for name in names if name), "a key")


COMMAND = Command(
    "models",
    "list the models: which are ready, which key the others need",
    "turnstream models\nturnstream models --config production.toml",
    add_arguments,
    run,
)
