"""`turnstream models`: lists the models that turns may name, and what each model needs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from turnstream.cli.command import Command, add_config
from turnstream.cli.terminal import bold, dim

if TYPE_CHECKING:
    from turnstream.config import ProviderSettings, Settings
    from turnstream.providers.catalog import Catalog, ListedModel, ProviderPlace


def add_arguments(parser: ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run(arguments: Namespace) -> int:
    from turnstream.config import load_settings
    from turnstream.providers.catalog import Catalog
    from turnstream.simulator.registration import SIMULATOR

    settings = load_settings(arguments.config)
    catalog = Catalog(settings.providers, in_process=SIMULATOR, default_model=settings.engine.default_model)
    if arguments.json:
        print(as_json(catalog, settings))
        return 0
    for line in [*table(catalog, settings, with_header=True), *places(catalog)]:
        print(line)
    return 0


def as_json(catalog: Catalog, settings: Settings) -> str:
    """Return the models and the providers as one JSON object."""
    import json

    from msgspec import to_builtins

    models = [
        {**to_builtins(model), "needs": None if model.ready else _needed(settings, model)}
        for model in catalog.models()
    ]
    names = {name: described.model for name, described in settings.models.items() if described.model}
    providers = to_builtins(catalog.places)
    return json.dumps(
        {"models": models, "names": names, "providers": providers}, indent=2, ensure_ascii=False
    )


def places(catalog: Catalog) -> list[str]:
    """Return a table with one line for each provider: its address, the address's source, and its key."""
    rows = [(place.name, place.url, place.url_from, _key_words(place)) for place in catalog.places]
    header = ("PROVIDER", "ADDRESS", "FROM", "KEY")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]])
        for row in [header, *rows]
    ]
    return [bold(lines[0]), *lines[1:]]


def _key_words(place: ProviderPlace) -> str:
    if place.key_from is None:
        return "none"
    if place.key_is_stored:
        return f"{place.key_from}, stored"
    return f"{place.key_from}, {'set' if place.key_is_set else 'not set'}"


class Row(NamedTuple):
    name: str
    wire: str
    note: str
    ready: bool


def table(catalog: Catalog, settings: Settings, *, with_header: bool = False) -> list[str]:
    """Return a table with one line for each name that turns may use: its wire and its state.

    The default model comes first, then the models that are ready.
    """
    models = catalog.models()
    rows = [Row(model.id, model.wire, _note(model, settings), model.ready) for model in models]
    rows += _names_of_models(catalog, settings)
    rows += _whole_providers(catalog, settings, {model.provider for model in models})
    name, wire = max(len(row.name) for row in rows), max(len(row.wire) for row in rows)
    rows.sort(key=lambda row: (row.name != catalog.default_model, not row.ready))
    header = [bold(f"{'MODEL'.ljust(name)}  {'WIRE'.ljust(wire)}  STATE")] if with_header else []
    return [
        *header,
        *(_line(row._replace(name=row.name.ljust(name), wire=row.wire.ljust(wire))) for row in rows),
    ]


def _line(row: Row) -> str:
    return (
        f"{bold(row.name)}  {row.wire}  {row.note}"
        if row.ready
        else dim(f"{row.name}  {row.wire}  {row.note}")
    )


def _note(model: ListedModel, settings: Settings) -> str:
    if not model.ready:
        needed = f"needs {_needed(settings, model)}"
        return f"{needed}, default" if model.default else needed
    return ("default" if model.default else "ready") + (", simulated" if model.provider == "sim" else "")


def _names_of_models(catalog: Catalog, settings: Settings) -> Iterator[Row]:
    """Yield the rows of the names that the settings define.

    Raises InvalidRequest if a name refers to an unknown provider.
    """
    from turnstream.providers.catalog import parse_model

    for name, described in settings.models.items():
        if described.model is not None:
            provider, _ = parse_model(described.model, catalog.names)
            note = f"alias of {described.model}"
            yield Row(name, catalog.wire_of(provider), note, catalog.is_ready(provider))


def _whole_providers(catalog: Catalog, settings: Settings, listed: Container[str]) -> Iterator[Row]:
    """Yield the rows of providers in the settings that list no models. Turns may name any model of them."""
    for name in settings.providers:
        if name not in listed:
            ready = catalog.is_ready(name)
            note = "ready: any model, by its name" if ready else f"needs {key_variable(settings, name)}"
            yield Row(f"{name}/…", catalog.wire_of(name), note, ready)


def _needed(settings: Settings, model: ListedModel) -> str:
    """Return what a model needs before it can be called."""
    from turnstream.providers.catalog import SIGNED_WIRE
    from turnstream.wires.shared.botocore_library import is_installed

    if model.wire != SIGNED_WIRE:
        return key_variable(settings, model.provider)
    if not is_installed():
        return "pip install 'turnstream[bedrock]'"
    return f"{key_variable(settings, model.provider)}, or AWS credentials and AWS_REGION"


def key_variable(settings: Settings, provider: str) -> str:
    """Return the name of the environment variable that holds a provider's key."""
    from turnstream.providers.catalog import BUILT_IN

    described: Sequence[ProviderSettings | None] = (settings.providers.get(provider), BUILT_IN.get(provider))
    names = (settings_of.api_key_env for settings_of in described if settings_of is not None)
    return next((name for name in names if name), "a key")


COMMAND = Command(
    "models",
    "list the models: which are ready, which key the others need",
    "turnstream models\nturnstream models --json\nturnstream models --config production.toml",
    add_arguments,
    run,
)
